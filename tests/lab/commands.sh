# The commands of a shell in the lab: read by tests/lab/shell.rs, which says in the environment where everything is.
# shellcheck shell=bash

# on MACHINE COMMAND…
on() {
    local machine=$1
    shift
    ip netns exec "$LAB_PREFIX$machine" "$@"
}

# ts NODE ARGUMENT…
ts() {
    local node=$1
    shift
    "$LAB_TAILSCALE" --socket="$LAB_DIRECTORY/$node/ts.sock" "$@"
}

# hs ARGUMENT…
hs() { "$LAB_HEADSCALE" -c "$LAB_DIRECTORY/control/config.yaml" "$@"; }

# ops ARGUMENT…
ops() { "$LAB_TAILOPS" "$@" --data-dir "$LAB_DATA"; }

# mcp NODE TOKEN TOOL [ARGUMENTS]
mcp() {
    local node=$1 token=$2 tool=$3 arguments=${4-}
    [[ -n $arguments ]] || arguments='{}'
    on "$node" curl --silent --show-error --max-time 30 "$LAB_URL" \
        --header "Authorization: Bearer $token" --header 'Content-Type: application/json' \
        --header 'Accept: application/json, text/event-stream' --header 'MCP-Protocol-Version: 2026-07-28' \
        --header 'Mcp-Method: tools/call' --header "Mcp-Name: $tool" \
        --data '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"'"$tool"'","arguments":'"$arguments"',"_meta":{
            "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}'
    echo
}

PS1='lab \$ '
