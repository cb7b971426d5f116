#!/usr/bin/env python3
"""Recording HTTP/1.1 origin for loopback tests (own code, stdlib only).

usage: origin.py PORT [--log FILE] [--tls-cert PEM --tls-key PEM] [--host 127.0.0.1]

Deliberately STRICT about framing, so that whatever a relay forwards is either one clean
request or is logged as BAD. PORT 0 lets the system pick; the first line of stdout says which. One JSON line per request goes to --log (default: stdout):
  {"t":..., "conn":n, "n":k, "method":..., "target":..., "headers":[[k,v],...], "body_len":..., "bad":null|reason}
Special targets: /slow?ms=N  /big?bytes=N  /close (closes without answering)  /reset (RST)
                 /status?code=N  /echo (returns the JSON record)  anything else: 200 JSON.
"""
import argparse, asyncio, json, re, socket, ssl, struct, sys, time
from urllib.parse import urlsplit, parse_qs

TOKEN = re.compile(rb"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
LOG = sys.stdout
CONNS = 0


def log(rec):
    rec["t"] = round(time.time(), 4)
    LOG.write(json.dumps(rec) + "\n")
    LOG.flush()


async def read_chunked(r):
    n = 0
    while True:
        line = await r.readuntil(b"\r\n")
        size = line[:-2].split(b";", 1)[0]
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size):
            raise ValueError("bad chunk size %r" % line[:40])
        k = int(size, 16)
        if k == 0:
            while (await r.readuntil(b"\r\n")) != b"\r\n":
                pass
            return n
        if k > 64 << 20:
            raise ValueError("chunk too large")
        await r.readexactly(k)
        if await r.readexactly(2) != b"\r\n":
            raise ValueError("chunk not ended by CRLF")
        n += k


async def serve(r, w):
    global CONNS
    CONNS += 1
    conn, n = CONNS, 0
    try:
        while True:
            try:
                head = await r.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as e:
                if e.partial:
                    log({"conn": conn, "n": n, "bad": "partial head", "raw": e.partial[:200].decode("latin1")})
                return
            except asyncio.LimitOverrunError:
                log({"conn": conn, "n": n, "bad": "head too large"})
                return
            n += 1
            lines = head[:-4].split(b"\r\n")
            rec = {"conn": conn, "n": n, "bad": None, "raw_line": lines[0].decode("latin1")}
            try:
                m, target, ver = lines[0].split(b" ")
                rec.update(method=m.decode("latin1"), target=target.decode("latin1"), version=ver.decode("latin1"))
                hs = []
                for ln in lines[1:]:
                    if b"\n" in ln or b"\r" in ln or b"\0" in ln:
                        raise ValueError("bare CR/LF/NUL in field line %r" % ln[:60])
                    k, sep, v = ln.partition(b":")
                    if not sep or not TOKEN.match(k):
                        raise ValueError("bad field line %r" % ln[:60])
                    hs.append((k.lower().decode(), v.strip(b" \t").decode("latin1")))
                rec["headers"] = hs
                te = [v for k, v in hs if k == "transfer-encoding"]
                cl = [v for k, v in hs if k == "content-length"]
                if ver not in (b"HTTP/1.1", b"HTTP/1.0"):
                    raise ValueError("version")
                if sum(k == "host" for k, _ in hs) != 1 and ver == b"HTTP/1.1":
                    raise ValueError("host count != 1")
                if te and cl:
                    raise ValueError("TE and CL both forwarded")
                if len(te) > 1 or (te and te[0].lower() != "chunked"):
                    raise ValueError("TE %r" % te)
                if len(cl) > 1 or (cl and not re.fullmatch(r"[0-9]{1,15}", cl[0])):
                    raise ValueError("CL %r" % cl)
                if any(k == "expect" and v.lower() == "100-continue" for k, v in hs):
                    w.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = 0
                if te:
                    body = await read_chunked(r)
                elif cl:
                    left = int(cl[0])
                    while left:
                        d = await r.read(min(left, 65536))
                        if not d:
                            raise ValueError("body cut short, %d missing" % left)
                        left -= len(d)
                        body += len(d)
                rec["body_len"] = body
            except (ValueError, asyncio.IncompleteReadError) as e:
                rec["bad"] = str(e)[:200]
                log(rec)
                w.write(b"HTTP/1.1 400 Bad Request\r\nX-Origin-Bad: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await w.drain()
                return
            log(rec)
            u = urlsplit(rec["target"])
            q = parse_qs(u.query)
            status, payload = 200, None
            if u.path.endswith("/slow"):
                await asyncio.sleep(min(int(q.get("ms", ["1000"])[0]), 120000) / 1000)
            elif u.path.endswith("/big"):
                payload = b"x" * min(int(q.get("bytes", ["1000000"])[0]), 256 << 20)
            elif u.path.endswith("/close"):
                return
            elif u.path.endswith("/reset"):
                s = w.get_extra_info("socket")
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                w.transport.abort()
                return
            elif u.path.endswith("/status"):
                status = int(q.get("code", ["200"])[0])
            if payload is None:
                payload = json.dumps({"ok": status < 400, "echo": rec}).encode()
            if status in (204, 304) or status < 200:
                w.write(b"HTTP/1.1 %d X\r\nX-Origin: 1\r\n\r\n" % status)
            else:
                w.write(b"HTTP/1.1 %d OK\r\nX-Origin: 1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                        % (status, len(payload)))
                if rec["method"] != "HEAD":
                    w.write(payload)
            await w.drain()
            conns = [v.lower() for k, v in rec["headers"] if k == "connection"]
            if "close" in conns or rec["version"] == "HTTP/1.0" and "keep-alive" not in conns:
                return
    except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
        pass
    finally:
        try:
            w.close()
        except Exception:
            pass


async def main():
    global LOG
    p = argparse.ArgumentParser()
    p.add_argument("port", type=int)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--log")
    p.add_argument("--tls-cert")
    p.add_argument("--tls-key")
    a = p.parse_args()
    if a.log:
        LOG = open(a.log, "a")
    ctx = None
    if a.tls_cert:
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(a.tls_cert, a.tls_key)
        ctx.set_alpn_protocols(["http/1.1"])
    s = await asyncio.start_server(serve, a.host, a.port, ssl=ctx, limit=1 << 20, backlog=1024)
    print("origin listens on %s:%d" % s.sockets[0].getsockname()[:2], flush=True)
    async with s:
        await s.serve_forever()

if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
