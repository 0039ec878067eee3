// Puts a bearer token into every request on its way to a gateway, for programs that cannot send one themselves.
// Listens on loopback only.
//
// usage: bearer-relay.mjs PORT GATEWAY_URL TOKEN_FILE
import { readFileSync } from "node:fs";
import http from "node:http";

const [port, url, tokenFile] = process.argv.slice(2);
const gateway = new URL(url);
const authorization = `Bearer ${readFileSync(tokenFile, "ascii").trim()}`;

const server = http.createServer((request, response) => {
    const onward = http.request({
        host: gateway.hostname,
        port: gateway.port,
        method: request.method,
        path: request.url,
        headers: { ...request.headers, authorization },
    });
    onward.on("response", (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        response.flushHeaders();
        answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
});
server.listen(Number(port), "127.0.0.1");
