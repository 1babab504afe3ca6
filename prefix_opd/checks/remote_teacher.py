"""Ask a teacher's servers before a run: do they answer, serve the right model, and score as the run needs?"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
from omegaconf import DictConfig, OmegaConf

from prefix_opd.base.errors import UserError, one_line
from prefix_opd.checks.cluster import URL_KEY
from prefix_opd.checks.teacher_prompts import teachers_longest_prompt
from prefix_opd.config.keys import TEACHER_KEY
from prefix_opd.config.models import Model
from prefix_opd.config.remote_teacher import RemoteTeacher, prompt_log_probs, scores
from prefix_opd.config.settings import Settings

Rows = list[list[int]]
ASK_SECONDS = 30.0
ASKED_TOKENS = 64
"""Tokens of the question, spread over the vocabulary."""
STARTUP = "startup"
"""The patch that puts the servers in place of verl's teacher."""


def remote_teacher(config: DictConfig, settings: Settings, seconds: float | None = None) -> RemoteTeacher:
    """The servers that a config names."""
    teacher = settings.teacher
    model = teacher.served_name or str(OmegaConf.select(config, TEACHER_KEY))
    return RemoteTeacher(teacher.urls, model, teacher.key_variable, seconds or settings.rollout.timeout_seconds)


def check_remote_teacher(config: DictConfig, settings: Settings, model: Model) -> None:
    """Check every URL of the teacher by one question.

    Args:
        model: the teacher's config and tokenizer.

    Raises:
        UserError: a URL does not answer, needs a key, serves another model or vocabulary, has too short a context, or
            returns no prompt log-probs.
    """
    if STARTUP in settings.patches_off:
        raise UserError(f"prefix_opd.patches_off=[{STARTUP}]", f"{URL_KEY} needs this patch", "leave it out")
    teacher = remote_teacher(config, settings, ASK_SECONDS)
    topk = config.distillation.distillation_loss.topk if settings.loss.needs_topk else 0
    needed = teachers_longest_prompt(config, settings) + config.actor_rollout_ref.rollout.response_length + 1
    for url in teacher.urls:
        _check_form(url)
        with httpx.Client(timeout=teacher.timeout, headers=teacher.headers) as http:
            _check_model(_answer(http.get, teacher, url, "models"), teacher, url, needed)
            _check_scores(http, teacher, url, model, topk)


def sample_and_score(
    config: DictConfig, settings: Settings, prompts: Rows, sampling: dict[str, Any], responses: Rows
) -> dict[str, Any]:
    """What an engine of `prefix_opd.checks.engines` answers, from the first URL.

    Args:
        prompts: [B] token ids, the teacher's prompts.
        sampling: the parameters.
        responses: [B] token ids that are scored after these prompts, twice.

    Raises:
        UserError: the server does not answer as `check_remote_teacher` demands.
    """
    teacher = remote_teacher(config, settings, ASK_SECONDS)
    url = teacher.urls[0]
    with httpx.Client(timeout=teacher.timeout, headers=teacher.headers) as http:

        def post(body: dict[str, Any]) -> Any:
            return _answer(http.post, teacher, url, "completions", json=body)

        def sampled(prompt: list[int]) -> dict[str, Any]:
            asked = {"model": teacher.model, "prompt": prompt, "logprobs": 0, "return_token_ids": True, **sampling}
            choice = post(asked)["choices"][0]
            return {
                "prompt": prompt,
                "tokens": choice["token_ids"],
                "log_probs": choice["logprobs"]["token_logprobs"],
            }

        def scored(prompt: list[int], response: list[int]) -> list[float]:
            tokens = [*prompt, *response]
            _, log_probs = scores(post(teacher.body(tokens, 0)), tokens, 0)
            return log_probs[len(prompt) - 1 : -1, 0].tolist()

        try:
            return {
                "sampled": [sampled(prompt) for prompt in prompts],
                "scored": [list(map(scored, prompts, responses)) for _ in range(2)],
            }
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{URL_KEY}={url}", f"answers in another form: {one_line(error)}", "use vLLM") from None


def _check_form(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"{URL_KEY}={url}", "is no URL of an API", "use http://HOST:PORT/v1")


def _answer(send: Any, teacher: RemoteTeacher, url: str, path: str, **request: Any) -> Any:
    """The JSON of an answer. Raises UserError."""
    what = f"{URL_KEY}={url}"
    try:
        answer = send(f"{url.rstrip('/')}/{path}", **request)
    except httpx.HTTPError as error:
        raise UserError(
            what, f"does not answer ({one_line(error)})", "start the server: vllm serve MODEL; see docs/guide.md"
        ) from None
    if answer.status_code in (401, 403):
        raise UserError(what, "needs another key", f"export {teacher.key_variable}=KEY")
    if answer.status_code == 404:
        raise UserError(what, f"has no {path}", "name the base of the API, http://HOST:PORT/v1")
    if answer.status_code >= 400:
        said = " ".join(answer.text.split())[:200]
        raise UserError(what, f"answers {answer.status_code} to {path}: {said}", "see the server's log")
    try:
        return answer.json()
    except ValueError:
        raise UserError(what, "does not answer with JSON", "name the base of the API, http://HOST:PORT/v1") from None


def _check_model(listed: Any, teacher: RemoteTeacher, url: str, needed: int) -> None:
    try:
        served = {str(one["id"]): one for one in listed["data"]}
    except (KeyError, TypeError):
        raise UserError(f"{URL_KEY}={url}", "lists no models", "use the OpenAI-compatible server of vLLM") from None
    if teacher.model not in served:
        raise UserError(
            f"{URL_KEY}={url}",
            f"serves {', '.join(sorted(served)) or 'nothing'}, not {teacher.model}",
            "set prefix_opd.teacher.served_name if it is the same model",
        )
    room = served[teacher.model].get("max_model_len")
    if isinstance(room, int) and room < needed:
        raise UserError(
            f"{URL_KEY}={url}",
            f"its context of {room} tokens has no room for prompt + response + 1 = {needed}",
            f"start it with --max-model-len {needed} or more",
        )


def _check_scores(http: httpx.Client, teacher: RemoteTeacher, url: str, model: Model, topk: int) -> None:
    names = {index: token for token, index in model.tokenizer.get_vocab().items()}
    spread = sorted(names)[:: max(1, len(names) // ASKED_TOKENS)]
    tokens = [*spread, max(names)]
    what = f"{URL_KEY}={url}"
    answer = _answer(http.post, teacher, url, "completions", json=teacher.body(tokens, topk))
    try:
        entries = prompt_log_probs(answer)
    except ValueError:
        raise UserError(
            what, "returns no prompt_logprobs, which score the student's tokens", "use the server of vLLM"
        ) from None
    try:
        scores(answer, tokens, topk)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(what, f"answers in another form: {one_line(error)}", "use the server of vLLM") from None
    for token, entry in zip(tokens[1:], entries[1:], strict=True):
        theirs, ours = (entry or {})[str(token)].get("decoded_token"), model.tokenizer.decode([token])
        if isinstance(theirs, str) and "\ufffd" not in theirs + ours and theirs.strip() != ours.strip() != "":
            raise UserError(
                what,
                f"has another vocabulary: token {token} is {theirs!r} there and {ours!r} in {model.path}",
                "serve the model that distillation.teacher_models.teacher_model.model_path names",
            )
