// Does Node believe these chains? A handshake on loopback.
//
// usage: node verify.mjs ROOT.pem CHAIN.pem KEY.pem NAME [CHAIN.pem KEY.pem NAME ...]
// One line a chain: "accepted", or "refused: " and why.
import fs from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';

const handshake = (ca, chain, key, name) => new Promise((resolve) => {
  const server = tls.createServer({ cert: fs.readFileSync(chain), key: fs.readFileSync(key) }, (socket) => socket.on('error', () => {}));
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1', () => {
    const address = net.isIP(name);
    const options = { host: '127.0.0.1', port: server.address().port, ca, servername: address ? '' : name };
    // An address is no server name, but it is what the certificate must be for.
    if (address) options.checkServerIdentity = (_, certificate) => tls.checkServerIdentity(name, certificate);
    const end = (words) => { socket.destroy(); server.close(); resolve(words); };
    const socket = tls.connect(options, () => end('accepted'));
    socket.on('error', (e) => end(`refused: ${e.code} ${e.message}`));
  });
});

const [root, ...rest] = process.argv.slice(2);
while (rest.length) console.log(await handshake(fs.readFileSync(root), ...rest.splice(0, 3)));
