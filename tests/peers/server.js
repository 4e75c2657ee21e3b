// A peer of node's `ws`; with the argument `deflate` it compresses everything for those who offer to take
// it. Prints `port N`, then serves until it is killed. server.py says what a path does.
'use strict';
const http = require('http');
const { WebSocketServer } = require('ws');

const ends = new Map(); // by id: { code, reason, messages }, or the callbacks that wait for it
const asked = (request) => {
  const url = new URL(request.url, 'http://peer');
  return [url.pathname, Object.fromEntries(url.searchParams)];
};
const ended = (id, end) => {
  for (const callback of ends.get(id) ?? []) callback(end);
  ends.set(id, end);
};
const onceEnded = (id, callback) => {
  const known = ends.get(id) ?? [];
  if (Array.isArray(known)) ends.set(id, [...known, callback]);
  else callback(known);
};

const server = http.createServer((request, response) => {
  const [path, query] = asked(request);
  const answer = (value) => response.setHeader('Content-Type', 'application/json').end(JSON.stringify(value));
  if (path === '/seen') onceEnded(query.id, answer);
  else answer({ peer: 'ws', path, agent: request.headers['user-agent'] });
});

const deflate = process.argv[2] === 'deflate';
const sockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: deflate && { threshold: 0 },
  handleProtocols: (offered) => ['superchat', 'chat.v2'].find((name) => offered.has(name)) ?? false,
});

const paths = {
  '/echo': (ws) => ws.on('message', (data, binary) => ws.send(data, { binary })),
  '/count': (ws) => {
    ws.messages = 0;
    ws.on('message', () => ws.messages++);
  },
  '/ping': (ws) => {
    const before = performance.now();
    ws.on('pong', () => ws.send(String(Math.round(performance.now() - before))));
    ws.ping('are you there');
  },
  '/large': (ws, { bytes, frame }) =>
    ws.on('message', () => {
      for (let at = 0; at < bytes; at += +frame) {
        const size = Math.min(frame, bytes - at);
        ws.send(Buffer.alloc(size, 'x'), { fin: at + size >= bytes });
      }
    }),
  '/close': (ws, { code, reason }) => ws.on('message', () => (code ? ws.close(+code, reason) : ws.close())),
  '/headers': (ws, query, request) => ws.send(JSON.stringify(request.headers)),
};

server.on('upgrade', (request, socket, head) => {
  const [path, query] = asked(request);
  if (path.startsWith('/refuse/')) {
    const status = path.slice('/refuse/'.length);
    const lines = [`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}`, 'WWW-Authenticate: Basic realm="peers"'];
    socket.end([...lines, 'Content-Length: 8', 'Connection: close', '', 'not you\n'].join('\r\n'));
    return;
  }
  sockets.handleUpgrade(request, socket, head, (ws) => {
    ws.on('error', () => {}); // `close` follows it
    ws.on('close', (code, reason) => {
      if (query.id) ended(query.id, { code, reason: String(reason), messages: ws.messages });
    });
    paths[path](ws, query, request);
  });
});
server.listen(0, '127.0.0.1', () => console.log('port', server.address().port));
