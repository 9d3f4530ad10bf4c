//! Small MCP servers: one called by HTTP, one started by the agent.

use serde_json::{Value, json};

use super::vendor::{Asked, Reply, Vendor};

/// Started in the checkout as `node mcp.js`. A call of its tool leaves a file that tells how long the
/// secret was that it got.
pub const STDIO: &str = r#"
const fs = require('fs');
const say = (id, result) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', id, result }) + '\n');
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  let message; try { message = JSON.parse(line); } catch { return; }
  const { id, method, params } = message;
  if (method === 'initialize') say(id, { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'loc', version: '1' } });
  else if (method === 'tools/list') say(id, { tools: [{ name: 'echo', description: 'Says pong.', inputSchema: { type: 'object', properties: {} } }] });
  else if (method === 'tools/call') { fs.writeFileSync('stdio.txt', `called with a secret of ${(process.env.TOKEN || '').length}\n`); say(id, { content: [{ type: 'text', text: 'pong by stdio' }] }); }
  else if (id !== undefined) say(id, {});
});
"#;

/// Ends when dropped. What it was asked is in `asked`.
pub async fn http() -> Vendor {
    Vendor::start(answer).await
}

fn answer(asked: &Asked) -> Reply {
    let Ok(message) = serde_json::from_str::<Value>(&asked.body) else { return Reply::json(405, "{}") };
    let Some(id) = message.get("id") else { return Reply::json(202, "") };
    let result = match message["method"].as_str() {
        Some("initialize") => json!({ "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": { "tools": {} }, "serverInfo": { "name": "rem", "version": "1" } }),
        Some("tools/list") => json!({ "tools": [{ "name": "ask", "description": "Says pong.",
            "inputSchema": { "type": "object", "properties": {} } }] }),
        Some("tools/call") => json!({ "content": [{ "type": "text", "text": "pong by http" }] }),
        _ => json!({}),
    };
    Reply::json(200, &json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
}
