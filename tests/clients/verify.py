"""Does Python believe these chains? A handshake in memory, with the strict checks that Python 3.13 has by default.

usage: verify.py ROOT.pem CHAIN.pem KEY.pem NAME [CHAIN.pem KEY.pem NAME ...]
One line a chain: "accepted", or "refused: " and why.
"""
import ssl
import sys


def handshake(root, chain, key, name):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key)
    client = ssl.create_default_context(cafile=root)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)]
    for turn in range(20):
        try:
            sides[turn % 2].do_handshake()
        except ssl.SSLWantReadError:
            continue
        if turn % 2 == 0:
            return
    raise RuntimeError("no end to the handshake")


root, rest = sys.argv[1], sys.argv[2:]
while rest:
    (chain, key, name), rest = rest[:3], rest[3:]
    try:
        handshake(root, chain, key, name)
        print("accepted")
    except ssl.SSLError as e:
        print("refused:", e)
