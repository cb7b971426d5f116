#!/usr/bin/env python3
"""Slow-client probes (own code, stdlib only): does the relay cut every kind of slow peer, and does it stay usable?

usage: slow_probe.py HOST PORT [wire options: --tls | --connect AUTH] [--limit 30] [--conns 300]
PASS for a slow case = the relay ended the connection (or answered 408) within --limit seconds.
All slow cases run at once, so a run lasts about --limit seconds. A bystander asks once a second meanwhile.
"""
import threading, time
from wire import *


def main():
    p = parser(__doc__.split("\n")[0])
    p.add_argument("--limit", type=float, default=30)
    p.add_argument("--idle-limit", type=float, default=120, help="for a kept connection that is idle, and a slow reader")
    p.add_argument("--skip", help="case that is left out")
    p.add_argument("--conns", type=int, default=300)
    p.add_argument("--latency", type=float, default=1.0)
    a = p.parse_args()
    A = (a.authority or a.sni).encode()
    rep, lock, t0 = Report(a.only), threading.Lock(), time.time()
    stop = threading.Event()

    def watch(s, trickle=None, every=1.0, limit=None):
        """send trickle pieces; return seconds until the peer ended it, or None"""
        st, nxt = time.time(), time.time() + every
        while time.time() - st < (limit or a.limit):
            s.settimeout(0.25)
            try:
                d = s.recv(4096)
                if not d:
                    return time.time() - st, b""
                if d.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")) or d[:1] == b"\x15":
                    return time.time() - st, d[:20]
            except (TimeoutError, socket.timeout):
                pass
            except OSError:
                return time.time() - st, b"reset"
            if trickle and time.time() >= nxt:
                nxt += every
                try:
                    s.sendall(trickle)
                except OSError:
                    return time.time() - st, b"reset"
        return None, b""

    def case(cid, f):
        if not rep.wants(cid) or cid == a.skip:
            return
        try:
            el, d = f()
        except Exception as e:
            with lock:
                rep.line(False, cid, "error %r" % e)
            return
        with lock:
            limit = a.idle_limit if cid in ("keepalive-idle", "slow-read") else a.limit
            rep.line(el is not None, cid, "ended after %.1fs %r" % (el, d) if el is not None else "STILL OPEN after %.0fs" % limit)

    head = b"POST /x HTTP/1.1\r\nHost: " + A + b"\r\nContent-Type: application/json\r\n"
    secure = a.tls or a.proxy_tls

    def after(b, trickle=None, every=1.0, limit=None):
        def f():
            s = dial(a)
            s.sendall(b)
            return watch(s, trickle, every, limit)
        return f

    def slow_read():
        """100 bytes a second for a while, then all the rest: the relay must have given up before the end"""
        size = 50000000
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.settimeout(a.timeout)
        s.connect((a.host, a.port))
        t = TlsOver(s, tls_ctx(a, ["http/1.1"]), a.sni) if a.tls else s
        t.sendall(b"GET /big?bytes=%d HTTP/1.1\r\nHost: " % size + A + b"\r\n\r\n")
        # From here on the socket itself is read: a TLS layer would feed us from one 16 KiB record for minutes.
        st, got = time.time(), 0
        while True:
            slow = time.time() - st < min(a.limit, 35)
            if slow:
                time.sleep(1)
            s.settimeout(0.2 if slow else a.timeout)
            try:
                d = s.recv(100 if slow else 65536)
            except (TimeoutError, socket.timeout):
                if slow:
                    continue
                return None, b""
            except OSError:
                return time.time() - st, b"reset"
            got += len(d)
            if got >= size:
                return None, b""
            if not d:
                return time.time() - st, b"cut at %d" % got

    def raw(b, trickle=None):
        def f():
            s = tcp(a)
            if b:
                s.sendall(b)
            return watch(s, trickle)
        return f

    cases = [("tcp-silent", raw(b""))]
    if secure:
        cases += [("tls-5-bytes", raw(b"\x16\x03\x01\x02\x00")), ("tls-trickle", raw(b"\x16\x03\x01\x02\x00\x01", b"\x00")), ("tls-done-then-silent", after(b""))]
    if a.connect:
        cases += [("connect-head-half", raw(b"CONNECT ")), ("connect-head-trickle", raw(b"CONNECT %s HTTP/1.1\r\n" % a.connect.encode(), b"X-A: b\r\n"))]

        def silent_tunnel():
            n, a2 = a.no_inner_tls, a
            a2 = type(a)(**vars(a))
            a2.no_inner_tls = True
            return watch(dial(a2))
        cases += [("tunnel-no-clienthello", silent_tunnel)]
    if not a.no_inner_tls:
        cases += [("head-half", after(b"GET /x HT")), ("head-trickle", after(b"GET /x HTTP/1.1\r\n", b"X-A: b\r\n")), ("head-trickle-1-byte", after(b"GET /x HTTP/1.1\r\nX-A: ", b"b")),
                  ("body-none", after(head + b"Content-Length: 1000\r\n\r\n")), ("body-trickle", after(head + b"Content-Length: 100000\r\n\r\n", b"x")),
                  ("chunk-trickle", after(head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")), ("keepalive-idle", after(b"GET /x HTTP/1.1\r\nHost: " + A + b"\r\n\r\n", limit=a.idle_limit)),
                  ("expect-no-body", after(head + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"))]
        if not a.connect:
            cases.append(("slow-read", slow_read))
    lat = []

    def ask():
        st = time.time()
        try:
            s = dial(a)
            s.sendall(b"GET /x HTTP/1.1\r\nHost: " + A + b"\r\nConnection: close\r\n\r\n")
            b, how = read_all(s, 5)
            s.close()
            return time.time() - st if b.startswith(b"HTTP/1.1 2") else 99
        except Exception:
            return 99

    def bystander():
        while not stop.is_set():
            lat.append(ask())
            stop.wait(1)

    th = [threading.Thread(target=case, args=c) for c in cases]
    by = threading.Thread(target=bystander)
    held = []
    for _ in range(a.conns):
        try:
            held.append(tcp(a))
        except OSError:
            break
    by.start()
    for t in th:
        t.start()
    for t in th:
        t.join()
    stop.set()
    by.join()
    for s in held:
        s.close()
    worst = max(lat)
    rep.line(worst <= a.latency, "bystander", "%d requests while %d silent connections were open, worst %.3fs" % (len(lat), len(held), worst))
    rep.done()

if __name__ == "__main__":
    main()
