//! The floor: the least an MCP server in this language and with this SDK can do. One constant tool, no identity, no
//! token, no policy, no record. Runs as a child of the benchmark, from the same binary.

use std::{io::Read, sync::Arc};

use anyhow::Result;
use axum::serve::ListenerExt;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};

/// Makes the benchmark be the floor instead.
pub(crate) const ARGUMENT: &str = "--be-the-floor";

/// Its tool.
pub(crate) const TOOL: &str = "constant";

#[derive(Clone)]
struct Floor {
    tool: Arc<Tool>,
}

impl ServerHandler for Floor {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("ok")]).into())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(vec![Tool::clone(&self.tool)]))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        (name == TOOL).then(|| Tool::clone(&self.tool))
    }
}

/// Serves on a free port of loopback and says which on standard output. Ends with its standard input, and so with
/// the process that started it.
pub(crate) fn serve() -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let floor = Floor { tool: Arc::new(Tool::new(TOOL, "Answers ok", serde_json::Map::new())) };
        let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
        let service =
            StreamableHttpService::new(move || Ok(floor.clone()), Arc::new(NeverSessionManager::default()), config);
        let router = axum::Router::new().route("/healthz", axum::routing::get("ok")).route_service("/mcp", service);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        Ok(axum::serve(listener, router).await?)
    })
}
