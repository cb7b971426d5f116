"""Python's own HTTP clients. usage: ask.py http|direct RELAY-HOST RELAY-PORT URL CA.pem

http: urllib with the relay as proxy; its CONNECT is HTTP/1.0 without Host. direct: the name leads to the relay.
Prints "status N", or what went wrong and exits 4.
"""
import http.client
import socket
import ssl
import sys
import urllib.request
from urllib.parse import urlsplit

way, host, port, url, ca = sys.argv[1:6]
context = ssl.create_default_context(cafile=ca)
body, headers = b"{}", {"Content-Type": "application/json"}
try:
    if way == "http":
        proxy = urllib.request.ProxyHandler({"https": "http://%s:%s" % (host, port)})
        opener = urllib.request.build_opener(proxy, urllib.request.HTTPSHandler(context=context))
        status = opener.open(urllib.request.Request(url, body, headers), timeout=20).status
    else:
        to = urlsplit(url)
        connection = http.client.HTTPSConnection(to.hostname, context=context, timeout=20)
        plain = socket.create_connection((host, int(port)), timeout=20)
        connection.sock = context.wrap_socket(plain, server_hostname=to.hostname)
        connection.request("POST", to.path, body, headers)
        status = connection.getresponse().status
    print("status", status)
except Exception as e:
    print(type(e).__name__, e)
    sys.exit(4)
