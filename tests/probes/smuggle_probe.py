#!/usr/bin/env python3
"""Malformed and ambiguous HTTP/1.1 requests against a relay (own corpus, written from RFC 9110/9112).

usage: smuggle_probe.py HOST PORT [wire options] [--origin-log FILE]
  plain:        smuggle_probe.py 127.0.0.1 8080
  reverse TLS:  smuggle_probe.py 127.0.0.1 8443 --tls --sni licensing.example.test
  in a tunnel:  smuggle_probe.py 127.0.0.1 3128 --connect licensing.example.test:443

With --origin-log (the log of origin.py behind the relay) each case is also judged by what REACHED the origin:
no request whose target holds the case's marker, and none that the origin marked bad. That is the
judgement that matters; without it only the client's side is seen.

Verdict classes (column 3 of the corpus):
  OK      must be answered by a final status < 400 (valid message; refusing it breaks clients)
  BAD     must be refused: first final status 400..599 (or the connection just closed), nothing after it,
          the smuggled second request neither answered nor forwarded
  BADC    as BAD and the connection must be closed afterwards (framing is no longer trustworthy)
  EITHER  the RFC leaves a choice; refused, or accepted as ONE well-framed message; never two
  CLOSE   may be processed as ONE message or refused, but the connection MUST be closed after the answer
  WAIT    a legal start of something huge: refuse (413/400) or keep waiting; never a success, never forwarded as whole
  TWO     valid pipelining: exactly two final answers < 400 are allowed; a close after the first is too
"""
import json, os, sys, time
from wire import *

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "smuggle_cases.json")) as f:
    C = [(x["id"], x["ref"], x["want"], x["raw"].encode("latin1") * x.get("times", 1), x["note"]) for x in json.load(f)]


def build(raw, auth, marker):
    raw = raw.replace(b"{A}", auth.encode()).replace(b"{M}", marker.encode())
    if b"Content-Length: LEN\r\n" in raw:
        body = raw.split(b"\r\n\r\n", 1)[1]
        raw = raw.replace(b"LEN", b"%d" % len(body), 1)
    return raw


def main():
    p = parser(__doc__.split("\n")[0])
    p.add_argument("--origin-log")
    p.add_argument("--list", action="store_true", help="only list the corpus")
    a = p.parse_args()
    auth = a.authority or a.sni
    if a.list:
        for cid, ref, want, raw, note in C:
            print("%-28s RFC %-18s %-6s %s" % (cid, ref, want, note))
        print("%d cases" % len(C))
        return
    rep = Report(a.only)
    run = "r%x" % (int(time.time()) & 0xffffff)
    for i, (cid, ref, want, raw, note) in enumerate(C):
        if not rep.wants(cid):
            continue
        marker = "%sc%03d" % (run, i)
        msg = build(raw, auth, marker)
        off = os.path.getsize(a.origin_log) if a.origin_log else 0
        try:
            s = dial(a)
        except Exception as e:
            rep.line(False, cid, "cannot connect: %r" % e)
            continue
        try:
            try:
                s.sendall(msg)
                if cid == "chunk-missing-end":
                    s.shutdown(1)
            except OSError:
                pass
            methods = [msg.split(b" ", 1)[0].decode("latin1")]
            buf, how, end = b"", "open", time.time() + a.timeout
            while how == "open" and time.time() < end:
                more, how = read_all(s, end - time.time(), quiet=0.4)
                buf += more
                rs = responses(buf, methods)
                final = [r[0] for r in rs if r[0] >= 200]
                # A busy machine is slow: go on reading where what was asked for may still come.
                if len(final) >= {"CLOSE": 99, "BADC": 99, "TWO": 2, "WAIT": 0, "EXPECT": 0}.get(want, 1):
                    break
        finally:
            s.close()
        info = [r[0] for r in rs if r[0] < 200]
        text = buf.decode("latin1")
        problems = []
        seen = []
        if a.origin_log:
            time.sleep(0.05)
            with open(a.origin_log) as f:
                f.seek(off)
                for ln in f:
                    try:
                        seen.append(json.loads(ln))
                    except ValueError:
                        pass
            if any("-smuggled" in r.get("raw_line", "") for r in seen):
                problems.append("SMUGGLED request reached the origin")
            if cid == "chunk-missing-end":  # a streaming relay may have started: the origin must see it as cut short
                if any(r.get("bad") is None for r in seen):
                    problems.append("incomplete body reached the origin as complete")
                seen = [r for r in seen if not r.get("bad")]
            if want in ("WAIT", "EXPECT"):  # we hang up before the body is whole: the origin may see a cut-off body
                seen = [r for r in seen if not (r.get("bad") or "").startswith(("body cut", "0 bytes", "chunk too large")) and "bytes read" not in (r.get("bad") or "")]
            if any(r.get("bad") for r in seen):
                problems.append("origin saw a malformed request: %s" % [r["bad"] for r in seen if r.get("bad")][0])
            if want in ("BAD", "BADC", "WAIT") and any(r.get("bad") is None for r in seen) and cid != "rl-connect-inner":
                problems.append("forwarded to the origin")
            if cid.startswith("hop-upgrade") and any(k in ("upgrade", "http2-settings") for r in seen for k, _ in r.get("headers", [])):
                problems.append("Upgrade forwarded")
            if cid == "hop-proxy-connection" and any(k == "proxy-connection" for r in seen for k, _ in r.get("headers", [])):
                problems.append("Proxy-Connection forwarded")
        if "-smuggled" in text and "GET /%s-smuggled" % marker in text and len(final) > 1:
            problems.append("smuggled request was answered")
        if 101 in info:
            problems.append("answered 101")
        closed = how in ("eof", "reset")
        if want == "OK":
            if len(final) != 1 or final[0] >= 400:
                problems.append("valid request refused")
        elif want in ("BAD", "BADC"):
            if not final and not closed:
                problems.append("no answer and still open after %.1fs (hang)" % a.timeout)
            elif final and final[0] < 400:
                problems.append("accepted")
            if len(final) > 1:
                problems.append("%d answers to one bad message" % len(final))
            if want == "BADC" and final and not closed and not problems:
                # refused, but is the connection really done? give it one more moment
                problems.append("connection kept open after a framing error")
        elif want == "EITHER":
            if not final and not closed:
                problems.append("no answer and still open after %.1fs (hang)" % a.timeout)
            if len(final) > 1 and any(x < 400 for x in final[1:]):
                problems.append("two requests processed out of one")
        elif want == "CLOSE":
            if not closed:
                problems.append("connection not closed after the answer")
            if len(final) > 1:
                problems.append("%d answers" % len(final))
        elif want == "WAIT":
            if any(x < 400 for x in final) or len(final) > 1:
                problems.append("answered as if complete")
        elif want == "TWO":
            ok = [x for x in final if x < 400]
            if not ok:
                problems.append("valid pipelined requests refused")
            if len(final) > 2:
                problems.append("more than two answers")
            if len(final) < 2 and not closed:
                problems.append("second request neither answered nor connection closed")
        elif want == "EXPECT":
            if not info and not final and not closed:
                problems.append("silence on Expect: 100-continue")
        rep.line(not problems, cid, "RFC %s want=%s got=%s %s%s%s" % (
            ref, want, ",".join(map(str, info + final)) or "-", how,
            " origin=%d" % len(seen) if a.origin_log else "", "  <- " + "; ".join(problems) if problems else ""))
    rep.done()

if __name__ == "__main__":
    main()
