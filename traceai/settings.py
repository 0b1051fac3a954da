"""Where traceai keeps things: the three environment variables, and the folder they default to."""

import os
from pathlib import Path

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from traceai.errors import HomeError, SettingsError


def default_home() -> Path:
    """A per-user folder; for root `/var/lib/traceai`, which the embedded server's own user can reach as it stands."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/traceai")
    return platformdirs.user_data_path("traceai", appauthor=False)


class Settings(BaseSettings):
    """Read from the environment once, at the edge, and passed on.

    home: `TRACEAI_HOME`; the embedded server, the blobs, later keys and spool.
    database_url: `TRACEAI_DATABASE_URL`; PostgreSQL 15 or later. None means the embedded server.
    blobs: `TRACEAI_BLOBS`; an fsspec URL. None means `<home>/blobs`.
    """

    model_config = SettingsConfigDict(env_prefix="TRACEAI_", frozen=True, env_ignore_empty=True)

    home: Path = Field(default_factory=default_home)
    database_url: str | None = None
    blobs: str | None = None

    @classmethod
    def from_environment(cls) -> "Settings":
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = "TRACEAI_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{name} is not usable: {first['msg']}; correct or unset it.") from error

    @property
    def blobs_url(self) -> str:
        return self.blobs or str(self.absolute_home / "blobs")

    @property
    def absolute_home(self) -> Path:
        try:
            return self.home.expanduser().absolute()
        except RuntimeError as error:
            raise SettingsError(f"TRACEAI_HOME {self.home} names no known user; write the path out.") from error

    def ensure_home(self) -> Path:
        """Create the home folder where it is missing.

        For root it can be entered by others (the embedded server runs as a user of its own); for anybody else it is
        private. What lies in it sets its own permissions.

        Raises:
            HomeError: it cannot be created or written to.
        """
        home = self.absolute_home
        as_root = hasattr(os, "geteuid") and os.geteuid() == 0
        try:
            home.mkdir(mode=0o755 if as_root else 0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"TRACEAI_HOME {home} cannot be created ({error.strerror}); set TRACEAI_HOME to a folder you may write to."
            ) from error
        if not os.access(home, os.W_OK | os.X_OK):
            raise HomeError(f"TRACEAI_HOME {home} is not writable; set TRACEAI_HOME to a folder you may write to.")
        return home
