"""The board of the challenge: it shows the note whose key is asked for, and asks no questions about the key."""

import html
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def read(key):
    """The value of a key of the database (RESP, the protocol of Redis); None: there is none."""
    with socket.create_connection(("db", 6379), timeout=5) as connection:
        raw = key.encode()
        connection.sendall(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(raw), raw))
        answer = connection.makefile("rb")
        length = int(answer.readline()[1:])
        return None if length < 0 else answer.read(length).decode("utf-8", "replace")


class Board(BaseHTTPRequestHandler):
    def do_GET(self):
        key = parse_qs(urlsplit(self.path).query).get("key", ["note:1"])[0]
        value = read(key)
        body = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Board</title></head><body>
<h1>Board</h1><p>{html.escape(value or "No such note.")}</p>
<p><a href="/?key=note:1">first</a> <a href="/?key=note:2">second</a></p></body></html>""".encode()
        self.send_response(200 if value is not None else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


Server(("::", 80), Board).serve_forever()
