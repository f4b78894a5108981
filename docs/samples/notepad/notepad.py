"""A notepad for one: GET / shows the text, POST / replaces it. It is kept in memory and gone with the instance."""

import html
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

NOTE = Path("/notes/note.txt")
MOST_BYTES = 1024 * 1024
PARAMETERS = json.loads(Path("/orchestrator/parameters.json").read_text())

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{headline}</title></head>
<body><h1>{headline}</h1>
<form method="post"><textarea name="note" rows="20" cols="80">{note}</textarea><br><button>Keep</button></form>
</body></html>
"""


class Notepad(BaseHTTPRequestHandler):
    def do_GET(self):
        note = NOTE.read_text() if NOTE.exists() else ""
        text = PAGE.format(headline=html.escape(PARAMETERS["HEADLINE"]), note=html.escape(note))
        self.answer(200, text)

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        if length > MOST_BYTES:
            return self.answer(413, "At most a megabyte, please.\n")
        form = parse_qs(self.rfile.read(length).decode("utf-8", "replace"))
        NOTE.write_text(form.get("note", [""])[0])
        self.send_response(303)
        self.send_header("Location", "/")
        self.end_headers()

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


Server(("::", 80), Notepad).serve_forever()
