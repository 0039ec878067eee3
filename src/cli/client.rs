//! `tailops client`: the configuration that connects a client, ready to paste. Never holds a token: it names the
//! variable, the input or the file that does.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, ensure};
use clap::{Args, ValueEnum};
use reqwest::Url;
use serde_json::{Value, json};

use super::{Exit, data_directory, say, stdio};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// For which client
    #[arg(value_enum)]
    client: Client,
    /// Let the client start `tailops stdio` instead of speaking HTTP itself
    #[arg(long)]
    stdio: bool,
    /// The gateway
    #[arg(long, default_value = "http://127.0.0.1:8080/mcp")]
    url: Url,
    /// With --stdio: the file that holds the token [default: dev-token in the data directory]
    #[arg(long, value_name = "FILE", requires = "stdio")]
    token_file: Option<PathBuf>,
    /// Without --stdio: the environment variable that holds the token
    #[arg(long, value_name = "NAME", default_value = "TAILOPS_TOKEN", conflicts_with = "stdio")]
    token_env: String,
    /// What the client calls the gateway
    #[arg(long, default_value = "tailops")]
    name: String,
    /// Say only which file it belongs in
    #[arg(long)]
    path: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    ClaudeCode,
    ClaudeDesktop,
    Vscode,
    Cursor,
    Codex,
    Inspector,
}

/// How the client reaches the gateway.
enum Way {
    /// Itself, with the token from this variable.
    Http { url: String, token_env: String },
    /// Through this command.
    Stdio { command: String, arguments: Vec<String> },
}

impl Client {
    /// Where its configuration is kept; none for one that is told on its command line.
    fn path(self) -> Option<&'static str> {
        Some(match self {
            Self::ClaudeCode => ".mcp.json",
            Self::ClaudeDesktop if cfg!(target_os = "macos") => {
                "~/Library/Application Support/Claude/claude_desktop_config.json"
            }
            Self::ClaudeDesktop => "~/.config/Claude/claude_desktop_config.json",
            Self::Vscode => ".vscode/mcp.json",
            Self::Cursor => "~/.cursor/mcp.json",
            Self::Codex => "~/.codex/config.toml",
            Self::Inspector => return None,
        })
    }

    /// For people.
    fn note(self, way: &Way) -> &'static str {
        match (self, way) {
            (Self::ClaudeCode, Way::Http { .. }) => {
                "in the project's folder, or for every project: claude mcp add-json --scope user"
            }
            (Self::ClaudeCode, Way::Stdio { .. }) => "in the project's folder",
            (Self::ClaudeDesktop, _) => "then start Claude Desktop anew",
            (Self::Vscode, Way::Http { .. }) => "VS Code asks for the token once, and keeps it",
            (Self::Inspector, Way::Http { .. }) => {
                "needs Node 22; the token can be seen in the process list while it runs: --stdio avoids that"
            }
            (Self::Inspector, Way::Stdio { .. }) => "needs Node 22",
            _ => "beside what is there already",
        }
    }

    fn configuration(self, name: &str, way: &Way) -> anyhow::Result<String> {
        if let (Self::ClaudeDesktop, Way::Http { .. }) = (self, way) {
            // It reaches HTTP servers only from its maker's cloud, which is not on the tailnet.
            return Err(anyhow!("Claude Desktop cannot reach a gateway on this network by itself: add --stdio"));
        }
        Ok(match self {
            Self::ClaudeCode | Self::ClaudeDesktop | Self::Cursor => pretty(&json!({
                "mcpServers": {name: match way {
                    Way::Stdio { command, arguments } if self == Self::ClaudeDesktop => {
                        json!({"command": command, "args": arguments})
                    }
                    Way::Stdio { command, arguments } => {
                        json!({"type": "stdio", "command": command, "args": arguments})
                    }
                    Way::Http { url, token_env } if self == Self::Cursor => {
                        json!({"url": url, "headers": {"Authorization": format!("Bearer ${{env:{token_env}}}")}})
                    }
                    Way::Http { url, token_env } => {
                        json!({"type": "http", "url": url, "headers": {"Authorization": format!("Bearer ${{{token_env}}}")}})
                    }
                }},
            })),
            Self::Vscode => pretty(&match way {
                Way::Stdio { command, arguments } => {
                    json!({"servers": {name: {"type": "stdio", "command": command, "args": arguments}}})
                }
                Way::Http { url, .. } => {
                    let input = format!("{name}-token");
                    let header = format!("Bearer ${{input:{input}}}");
                    json!({
                        "inputs": [{"type": "promptString", "id": input, "description": format!("{name} token"), "password": true}],
                        "servers": {name: {"type": "http", "url": url, "headers": {"Authorization": header}}},
                    })
                }
            }),
            Self::Codex => {
                let server = match way {
                    Way::Stdio { command, arguments } => json!({"command": command, "args": arguments}),
                    Way::Http { url, token_env } => json!({"url": url, "bearer_token_env_var": token_env}),
                };
                let keys = server.as_object().into_iter().flatten();
                // A text or a list of texts is written the same in JSON and in TOML, but for `\u{7f}`.
                let lines: Vec<String> = keys.map(|(key, value)| format!("{key} = {value}")).collect();
                format!("[mcp_servers.{name}]\n{}", lines.join("\n"))
            }
            Self::Inspector => {
                let begin = "npx -y @modelcontextprotocol/inspector --cli";
                match way {
                    Way::Stdio { command, arguments } => {
                        let words: Vec<String> =
                            [command].into_iter().chain(arguments).map(|word| quoted(word)).collect();
                        format!("{begin} --transport stdio --method tools/list -- {}", words.join(" "))
                    }
                    Way::Http { url, token_env } => format!(
                        "{begin} {} --transport http --header \"Authorization: Bearer ${token_env}\" --method tools/list",
                        quoted(url)
                    ),
                }
            }
        })
    }
}

pub(super) fn run(directory: Option<&Path>, arguments: Arguments) -> Result<(), Exit> {
    let wrong = |error| Exit::with(2, error);
    check_names(&arguments).map_err(wrong)?;
    stdio::check(&arguments.url).map_err(wrong)?;
    let Arguments { client, url, name, .. } = arguments;
    if arguments.path {
        let path = client.path().context("it keeps none: it is told all on its command line").map_err(wrong)?;
        return Ok(say(path)?);
    }
    let way = if arguments.stdio {
        let file = match arguments.token_file {
            Some(file) => std::path::absolute(file)?,
            None => data_directory(directory)?.join("dev-token"),
        };
        if !file.exists() {
            writeln!(io::stderr(), "{} is not there yet: put the token into it, mode 0600", file.display())?;
        }
        bridge(url.as_str(), &file)?
    } else {
        Way::Http { url: url.into(), token_env: arguments.token_env }
    };
    let text = client.configuration(&name, &way).map_err(wrong)?;
    writeln!(io::stderr(), "{}: {}", client.path().unwrap_or("run it in a shell"), client.note(&way))?;
    Ok(say(text)?)
}

/// The command line of a bridge to `url` with the token in `file`, for a shell.
pub(super) fn bridge_line(url: &str, file: &Path) -> anyhow::Result<String> {
    let Way::Stdio { command, arguments } = bridge(url, file)? else { return Ok(String::new()) };
    let words: Vec<String> = [&command].into_iter().chain(&arguments).map(|word| quoted(word)).collect();
    Ok(words.join(" "))
}

fn bridge(url: &str, file: &Path) -> anyhow::Result<Way> {
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.with_context(|| format!("{} is not UTF-8, and cannot stand in a configuration", path.display()))
    };
    // Clients start it from wherever they are.
    let command = text(&std::env::current_exe().context("where this program is")?)?;
    let arguments = vec!["stdio".into(), "--url".into(), url.into(), "--token-file".into(), text(file)?];
    Ok(Way::Stdio { command, arguments })
}

fn check_names(arguments: &Arguments) -> anyhow::Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let name = &arguments.name;
    ensure!(
        (1..=64).contains(&name.len()) && name.bytes().all(|byte| plain(byte) || byte == b'-'),
        "--name: {name:?} is not 1 to 64 letters, digits, `-` and `_`"
    );
    let variable = &arguments.token_env;
    ensure!(
        !variable.starts_with(|first: char| first.is_ascii_digit())
            && !variable.is_empty()
            && variable.bytes().all(plain),
        "--token-env: {variable:?} is no name of an environment variable; the token itself does not belong here"
    );
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// `word` as one word of a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/:._-=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ALL: [Client; 6] =
        [Client::ClaudeCode, Client::ClaudeDesktop, Client::Vscode, Client::Cursor, Client::Codex, Client::Inspector];

    fn http() -> Way {
        Way::Http { url: "https://gw.example.ts.net/mcp".into(), token_env: "GW_TOKEN".into() }
    }

    /// What stands in a shell, in JSON and in TOML only in quotes.
    const AWKWARD: &str = "/home/o'brien/a \"b\" $(c) \\d/token";

    fn stdio() -> Way {
        let arguments = ["stdio", "--url", "https://gw.example.ts.net/mcp", "--token-file", AWKWARD];
        Way::Stdio { command: "/usr/bin/tailops".into(), arguments: arguments.map(str::to_owned).to_vec() }
    }

    fn written(client: Client, way: &Way) -> String {
        client.configuration("gw", way).unwrap()
    }

    fn json_of(client: Client, way: &Way) -> Value {
        serde_json::from_str(&written(client, way)).unwrap()
    }

    /// How a shell reads `line`: a word a line.
    #[expect(clippy::disallowed_methods, reason = "a test asks a shell")]
    fn shell_words(line: &str) -> Vec<String> {
        let script = format!("npx() {{ printf '%s\\n' \"$@\"; }}\n{line}");
        let output = Command::new("sh").args(["-euc", &script]).env("GW_TOKEN", "secret").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn over_http_each_client_takes_the_token_from_where_it_can() {
        let (url, bearer) = ("https://gw.example.ts.net/mcp", |reference: &str| format!("Bearer {reference}"));
        let server = json!({"type": "http", "url": url, "headers": {"Authorization": bearer("${GW_TOKEN}")}});
        assert_eq!(json_of(Client::ClaudeCode, &http()), json!({"mcpServers": {"gw": server}}));
        let server = json!({"url": url, "headers": {"Authorization": bearer("${env:GW_TOKEN}")}});
        assert_eq!(json_of(Client::Cursor, &http()), json!({"mcpServers": {"gw": server}}));
        let vscode = json_of(Client::Vscode, &http());
        let server = json!({"type": "http", "url": url, "headers": {"Authorization": bearer("${input:gw-token}")}});
        assert_eq!(vscode["servers"], json!({"gw": server}));
        let input = &vscode["inputs"][0];
        assert_eq!(
            (&input["id"], &input["password"], &input["type"]),
            (&json!("gw-token"), &json!(true), &json!("promptString"))
        );
        let codex: toml::Table = written(Client::Codex, &http()).parse().unwrap();
        let server = codex["mcp_servers"]["gw"].as_table().unwrap();
        assert_eq!(server["url"].as_str(), Some(url));
        assert_eq!((server["bearer_token_env_var"].as_str(), server.len()), (Some("GW_TOKEN"), 2));
        let line = written(Client::Inspector, &http());
        let words = shell_words(&line);
        assert_eq!(words[..4], ["-y", "@modelcontextprotocol/inspector", "--cli", url]);
        assert!(words.contains(&"Authorization: Bearer secret".to_owned()) && !line.contains("secret"), "{words:?}");
        assert!(Client::ClaudeDesktop.configuration("gw", &http()).unwrap_err().to_string().contains("--stdio"));
    }

    #[test]
    fn over_stdio_each_client_starts_the_bridge_with_its_words_unchanged() {
        let arguments = json!(["stdio", "--url", "https://gw.example.ts.net/mcp", "--token-file", AWKWARD]);
        let typed = json!({"type": "stdio", "command": "/usr/bin/tailops", "args": arguments});
        let untyped = json!({"command": "/usr/bin/tailops", "args": arguments});
        assert_eq!(json_of(Client::ClaudeCode, &stdio()), json!({"mcpServers": {"gw": typed}}));
        assert_eq!(json_of(Client::Cursor, &stdio()), json!({"mcpServers": {"gw": typed}}));
        assert_eq!(json_of(Client::ClaudeDesktop, &stdio()), json!({"mcpServers": {"gw": untyped}}));
        assert_eq!(json_of(Client::Vscode, &stdio()), json!({"servers": {"gw": typed}}));
        let codex: toml::Table = written(Client::Codex, &stdio()).parse().unwrap();
        assert_eq!(serde_json::to_value(&codex["mcp_servers"]["gw"]).unwrap(), untyped);
        let words = shell_words(&written(Client::Inspector, &stdio()));
        let at = words.iter().position(|word| word == "--").unwrap();
        assert_eq!(
            words[at + 1..],
            ["/usr/bin/tailops", "stdio", "--url", "https://gw.example.ts.net/mcp", "--token-file", AWKWARD]
        );
    }

    #[test]
    fn every_client_is_told_where_it_goes() {
        for client in ALL {
            assert_eq!(client.path().is_none(), client == Client::Inspector);
            assert!(!client.note(&stdio()).is_empty() && !client.note(&http()).is_empty());
        }
    }
}
