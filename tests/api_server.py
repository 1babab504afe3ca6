"""An OpenAI-compatible server of scores in a thread, for tests: what it answers is the test's choice."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Scorer:
    """Log-prob of token t after token s: -(s + t) / 100. Its fields change what it answers."""

    def __init__(self, tokenizer, model="tt", room=4096):
        self.tokenizer, self.model, self.room = tokenizer, model, room
        self.key: str | None = None
        self.failures: list[int] = []
        """Status codes of the next answers to completions."""
        self.asked: list[dict] = []

    def models(self) -> dict:
        return {"data": [{"id": self.model, "max_model_len": self.room}]}

    def completions(self, body: dict) -> dict:
        tokens, topk = body["prompt"], body["prompt_logprobs"]
        return {"choices": [{"prompt_logprobs": [None, *map(self.entry, tokens, tokens[1:], [topk] * len(tokens))]}]}

    def entry(self, before: int, token: int, topk: int) -> dict:
        """The token with its rank, 9, and tokens 0 to k - 1 with ranks 1 to k."""
        ranks = {token: 9, **{one: one + 1 for one in range(topk)}}
        return {
            str(one): {"logprob": -(before + one) / 100, "rank": rank, "decoded_token": self.tokenizer.decode([one])}
            for one, rank in ranks.items()
        }


@contextlib.contextmanager
def serving(scorer: Scorer):
    """The URL of the server's API."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(200 if self._known() else 401, scorer.models())

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            scorer.asked.append(body)
            if scorer.failures:
                self._send(scorer.failures.pop(0), {"error": "not now"})
            else:
                self._send(200 if self._known() else 401, scorer.completions(body))

        def _known(self) -> bool:
            return scorer.key is None or self.headers["Authorization"] == f"Bearer {scorer.key}"

        def _send(self, code: int, content: dict):
            data = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
