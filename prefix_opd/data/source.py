"""Sources of rows: the hub, or local files in the same layout. Both support repeated passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prefix_opd.base.errors import UserError
from prefix_opd.data.known import KnownSet
from prefix_opd.data.local import LocalSource
from prefix_opd.data.settings import PrepareSettings

LOOKUP_SECONDS = 20.0


class HubSource:
    """Rows from the hub; all passes read the same commit. ``revision`` is a branch, a tag or a commit."""

    def __init__(self, known: KnownSet, revision: str):
        self.known, self.revision, self.total = known, revision, known.rows
        self.commit = self._resolve()

    def _resolve(self) -> str | None:
        """The current commit of the revision; None if the hub does not answer."""
        import huggingface_hub
        from huggingface_hub.errors import OfflineModeIsEnabled

        huggingface_hub.utils.logging.set_verbosity_error()  # it writes two lines for each of its retries
        try:
            info = huggingface_hub.HfApi().dataset_info(self.known.repo, revision=self.revision, timeout=LOOKUP_SECONDS)
        except Exception as error:  # loading raises any other error again; report only "no network" early
            offline = isinstance(error, (OfflineModeIsEnabled, ConnectionError)) or "Connect" in type(error).__name__
            if offline and self.known.streamed:
                raise self._unreachable(error) from error
            return None
        return info.sha

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows. A set too large to store is streamed; the others are cached by ``datasets``."""
        import datasets

        try:
            yield from datasets.load_dataset(
                self.known.repo,
                self.known.config,
                split=self.known.split,
                revision=self.commit or self.revision,
                streaming=self.known.streamed,
            )
        except Exception as error:  # datasets, the hub client, pyarrow and the network each raise different types
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> UserError:
        what = f"{self.known.name} ({self.known.repo} at {self.revision})"
        local = "give a local copy with --from DIR"
        if self.known.gated and _is_refusal(error):
            page = f"https://huggingface.co/datasets/{self.known.repo}"
            return UserError(
                what,
                "is gated and access was refused",
                f"accept its terms at {page} and log in with `hf auth login`, or {local}",
            )
        first_line = str(error).strip().partition("\n")[0]
        return UserError(what, f"cannot be read from the hub ({type(error).__name__}: {first_line})", local)

    def described(self) -> dict[str, Any]:
        return {
            "kind": "hub",
            "repo": self.known.repo,
            "config": self.known.config,
            "split": self.known.split,
            "revision": self.revision,
            "commit": self.commit,
        }


def _is_refusal(error: BaseException | None) -> bool:
    """Whether the hub denied access. Without an account the hub reports a gated set as not found."""
    while error is not None:
        if type(error).__name__ in ("GatedRepoError", "DatasetNotFoundError") or "gated" in str(error).lower():
            return True
        error = error.__cause__
    return False


Source = HubSource | LocalSource


def open_source(settings: PrepareSettings) -> Source:
    """Open the source named in the settings. Local files are checked now, the hub at the first row."""
    known = settings.known
    if settings.from_dir is not None:
        return LocalSource(known, settings.from_dir)
    return HubSource(known, settings.revision or known.revision)
