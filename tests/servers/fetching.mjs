// An MCP server over stdio whose one tool makes the HTTP request that its arguments describe, with the global fetch or
// with node:https. KEY in a header, URL or body becomes API_KEY. It knows nothing of Percall.
import https, { request as importedRequest } from 'node:https';
import { createInterface } from 'node:readline';

const key = process.env.API_KEY;
const filled = (text) => text.replaceAll('KEY', key);

async function withFetch(method, url, headers, body, redirect) {
  const answer = await fetch(url, { method, headers, body, redirect });
  return { status: answer.status, text: await answer.text(), headers: Object.fromEntries(answer.headers) };
}

function withHttps(request, method, url, headers, body) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (piece) => { text += piece; });
      answer.on('error', reject).on('end', () => resolve({ status: answer.statusCode, text, headers: answer.headers }));
    });
    sent.on('error', reject).end(body);
  });
}

async function fetched(wanted) {
  const headers = Object.fromEntries(Object.entries(wanted.headers ?? {}).map(([name, value]) => [name, filled(value)]));
  const body = wanted.body === undefined ? undefined : filled(wanted.body);
  const { method = 'GET' } = wanted;
  const url = filled(wanted.url);
  try {
    if (wanted.via === 'https.request') return await withHttps(https.request, method, url, headers, body);
    if (wanted.via === 'imported request') return await withHttps(importedRequest, method, url, headers, body);
    return await withFetch(method, url, headers, body, wanted.follow ? 'follow' : 'manual');
  } catch (error) {
    return { status: 0, text: `${error} ${error.cause ?? ''}`, headers: {} };
  }
}

async function result(method, params) {
  if (method === 'initialize') {
    const serverInfo = { name: 'fetching', version: '1' };
    return { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo };
  }
  if (method === 'tools/list') {
    return { tools: [{ name: 'fetch', description: 'fetch', inputSchema: { type: 'object' } }] };
  }
  if (method !== 'tools/call') return {};
  return { content: [{ type: 'text', text: JSON.stringify(await fetched(params.arguments)) }], isError: false };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  if (id !== undefined) {
    process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', id, result: await result(method, params) })}\n`);
  }
}
