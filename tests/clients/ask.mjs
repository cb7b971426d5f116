// Node's own HTTP client. usage: node ask.mjs http|https|direct RELAY-HOST RELAY-PORT URL CA.pem
//
// Prints "status N", or what went wrong and exits 4.
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';

const [way, host, port, url, caFile] = process.argv.slice(2);
const ca = fs.readFileSync(caFile);
const { hostname, pathname } = new URL(url);

const fail = (e) => { console.log(e.name, e.code, e.message); process.exit(4); };
const ask = (more) => {
  const request = https.request({ method: 'POST', host: hostname, defaultPort: 443, path: pathname, ca, servername: hostname, ...more }, (reply) => {
    reply.resume();
    reply.on('end', () => { console.log('status', reply.statusCode); process.exit(reply.statusCode < 400 ? 0 : 3); });
  });
  request.on('error', fail);
  request.setHeader('Content-Type', 'application/json');
  request.end('{}');
};

if (way === 'direct') {
  ask({ createConnection: () => tls.connect({ host, port, ca, servername: hostname }) });
} else {
  const { request } = way === 'https' ? https : http;
  const connect = request({ method: 'CONNECT', host, port, ca, path: `${hostname}:443`, headers: { Host: `${hostname}:443` }, servername: net.isIP(host) ? '' : host });
  connect.on('connect', (reply, socket) => {
    if (reply.statusCode !== 200) fail(new Error(`${reply.statusCode} ${reply.statusMessage}`));
    ask({ createConnection: () => tls.connect({ socket, ca, servername: hostname }) });
  });
  connect.on('error', fail);
  connect.end();
}
