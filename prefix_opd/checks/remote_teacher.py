"""Ask a teacher's servers before a run: do they answer, serve the right model, and score as the run needs?"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.checks.cluster import URL_KEY
from prefix_opd.checks.teachers import teachers_longest_prompt
from prefix_opd.config.keys import TEACHER_KEY
from prefix_opd.config.models import Model
from prefix_opd.config.remote_teacher import RemoteTeacher, entries_of, scores
from prefix_opd.config.settings import Settings

Rows = list[list[int]]
ASK_SECONDS = 30.0
ASKED_TOKENS = 64
"""Tokens of the question, spread over the vocabulary."""
STARTUP = "startup"
"""The patch that puts the servers in place of verl's teacher."""


def remote_teacher(config: DictConfig, settings: Settings, seconds: float | None = None) -> RemoteTeacher:
    teacher = settings.teacher
    model = teacher.served_name or str(OmegaConf.select(config, TEACHER_KEY))
    return RemoteTeacher(teacher.urls, model, teacher.key_variable, seconds or settings.rollout.timeout_seconds)


def check_remote_teacher(config: DictConfig, settings: Settings, model: Model) -> None:
    """Check every URL of the teacher by one question: it answers with prompt log-probs, and serves ``model``, the
    teacher, with its vocabulary and with room for the sequences. Raises UserError."""
    if STARTUP in settings.patches_off:
        raise UserError(f"prefix_opd.patches_off=[{STARTUP}]", f"{URL_KEY} needs this patch", "leave it out")
    teacher = remote_teacher(config, settings, ASK_SECONDS)
    if not (teacher.key.isascii() and teacher.key.isprintable()):  # httpx would name the key in its error
        raise UserError(teacher.key_variable, "is no key: a header holds printable ASCII alone", "export it again")
    topk = config.distillation.distillation_loss.topk if settings.loss.needs_topk else 0
    needed = teachers_longest_prompt(config, settings) + config.actor_rollout_ref.rollout.response_length + 1
    for url in teacher.urls:
        if not _is_address(url):
            raise UserError(f"{URL_KEY}={url}", "is not the URL of an API", "use http://HOST:PORT/v1")
        _check_model(_ask(teacher, url, "models"), teacher, url, needed)
        _check_scores(teacher, url, model, topk)


def sample_and_score(
    config: DictConfig, settings: Settings, request: dict[str, Any], responses: Rows
) -> dict[str, Any]:
    """What an engine of `prefix_opd.checks.engines` answers, from the first URL. Raises UserError.

    Args:
        request: of the teacher's engine: its ``prompts`` [B], their ``seeds`` [B], and ``sampling``.
        responses: [B] token ids that are scored after the prompts, twice.
    """
    teacher = remote_teacher(config, settings, ASK_SECONDS)
    url = teacher.urls[0]

    def sampled(prompt: list[int], seed: int) -> dict[str, Any]:
        asked = {"model": teacher.model, "prompt": prompt, "logprobs": 0, "return_token_ids": True, "seed": seed}
        asked |= request["sampling"]
        choice = _ask(teacher, url, "completions", asked)["choices"][0]
        return {"prompt": prompt, "tokens": choice["token_ids"], "log_probs": choice["logprobs"]["token_logprobs"]}

    def scored(prompt: list[int], response: list[int]) -> list[float]:
        tokens = [*prompt, *response]
        _, log_probs = scores(_ask(teacher, url, "completions", teacher.body(tokens, 0)), tokens, 0)
        return log_probs[len(prompt) - 1 : -1, 0].tolist()

    try:
        again = [list(map(scored, request["prompts"], responses)) for _ in range(2)]
        return {"sampled": list(map(sampled, request["prompts"], request["seeds"])), "scored": again}
    except UserError:  # a ValueError, too
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise _other_form(url, error) from None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _ask(teacher: RemoteTeacher, url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON of an answer. Raises UserError."""
    what, base, method = f"{URL_KEY}={url}", "name the base of the API, http://HOST:PORT/v1", "POST" if body else "GET"
    place = f"{url.rstrip('/')}/{path}"
    try:
        answer = httpx.request(method, place, json=body, headers=teacher.headers, timeout=teacher.timeout)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # ValueError: a host name that is none
        fix = "start the server: vllm serve MODEL; see docs/guide.md"
        raise UserError(what, f"does not answer ({one_line(error)})", fix) from None
    if answer.status_code in (401, 403):
        raise UserError(what, "needs another key", f"export {teacher.key_variable}=KEY")
    if answer.status_code == 404:
        raise UserError(what, f"has no {path}", base)
    if answer.status_code >= 400:
        said = " ".join(answer.text.split())[:200]
        raise UserError(what, f"answers {answer.status_code} to {path}: {said}", "see the server's log")
    try:
        return answer.json()
    except ValueError:
        raise UserError(what, "does not answer with JSON", base) from None


def _other_form(url: str, error: Exception) -> UserError:
    return UserError(f"{URL_KEY}={url}", f"answers in another form: {one_line(error)}", "use vLLM's server")


def _check_model(listed: Any, teacher: RemoteTeacher, url: str, needed: int) -> None:
    what = f"{URL_KEY}={url}"
    try:
        served = {str(one["id"]): one for one in listed["data"]}
    except (KeyError, TypeError):
        raise UserError(what, "lists no models", "use the OpenAI-compatible server of vLLM") from None
    if teacher.model not in served:
        rule = f"serves {', '.join(sorted(served)) or 'nothing'}, not {teacher.model}"
        raise UserError(what, rule, "set prefix_opd.teacher.served_name if it is the same model")
    room = served[teacher.model].get("max_model_len")
    if isinstance(room, int) and room < needed:
        rule = f"its context of {room} tokens has no room for prompt + response + 1 = {needed}"
        raise UserError(what, rule, f"start it with --max-model-len {needed} or more")


def _check_scores(teacher: RemoteTeacher, url: str, model: Model, topk: int) -> None:
    names = {index: token for token, index in model.tokenizer.get_vocab().items()}
    spread = sorted(names)[:: max(1, len(names) // ASKED_TOKENS)]
    tokens, what = [*spread, max(names)], f"{URL_KEY}={url}"
    answer = _ask(teacher, url, "completions", teacher.body(tokens, topk))
    if not (entries := entries_of(answer)):
        raise UserError(what, "returns no prompt_logprobs, which score the student's tokens", "use vLLM's server")
    try:
        scores(answer, tokens, topk)
    except (ValueError, KeyError, TypeError) as error:
        raise _other_form(url, error) from None
    for token, entry in zip(tokens[1:], entries[1:], strict=True):
        theirs, ours = (entry or {})[str(token)].get("decoded_token"), model.tokenizer.decode([token])
        if isinstance(theirs, str) and "\ufffd" not in theirs + ours and theirs.strip() != ours.strip() != "":
            rule = f"has another vocabulary: token {token} is {theirs!r} there and {ours!r} in {model.path}"
            raise UserError(what, rule, f"serve the model that {TEACHER_KEY} names")
