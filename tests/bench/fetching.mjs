// As fetching.py, with Node's own fetch.
import { createInterface } from 'node:readline';

const headers = { Authorization: `Bearer ${process.env.API_KEY}` };

async function fetched(path) {
  const answer = await fetch(process.env.API_URL + path, { headers });
  if (answer.status !== 200) process.exit(1);
  return `${(await answer.arrayBuffer()).byteLength} bytes`;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) continue;
  let result = { protocolVersion: params?.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'fetching', version: '1' } };
  if (method === 'tools/list') result = { tools: [{ name: 'get_path', inputSchema: { type: 'object' } }] };
  if (method === 'tools/call') result = { content: [{ type: 'text', text: await fetched(params.arguments.message) }], isError: false };
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, result })}\n`);
}
