"""The plant that the soak disturbs: a server of its own, lines and a service on it, and the ledger that all of them write."""

import shutil
import tempfile
from pathlib import Path

from tests.conftest import register_tiny
from tests.inspection.recording.drafts import register
from tests.inspection.recording.servers import OwnServer
from tests.soak.lines import Line, Service
from traceai import access
from traceai.db.connection import Database
from traceai.errors import UnavailableError
from traceai.images.blobs import BlobStore
from traceai.inspection.recording.recorder import Recorder
from traceai.sdk import Trace
from traceai.settings import Settings

STATIONS = ("press-4", "press-5")


class Plant:
    """Everything runs once it is made. Close it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="traceai-soak-"))
        self.folder.chmod(0o755)
        self.home = self.folder / "home"
        settings = Settings(home=self.home, database_url=None)
        settings.ensure_home()
        self.server = OwnServer(self.home, durable=True)
        self.trace = Trace(settings, Database.open(settings), BlobStore(settings.blobs_url))
        register(self.trace)
        model = register_tiny(self.trace)
        self.trace.add_station("door-1")
        with self.trace.database.session() as session:
            access.add_user(session, "integrator", "station")
            token = access.create_token(session, "integrator")
        self.lines = [Line(self.folder, station, self.home) for station in STATIONS]
        self.service = Service(self.home, "door-1", model, token)

    @property
    def url(self) -> str:
        return self.trace.database.url

    def run(self) -> None:
        for line in self.lines:
            line.start()
        for line in self.lines:
            line.more(1)

    def settle(self) -> None:
        """Kill the lines, and deliver whatever waits in any spool, so that nothing is under way."""
        self.service.pause()
        for line in self.lines:
            line.kill()
        for home in (self.home, *(line.home for line in self.lines)):
            recorder = Recorder(self.trace.database, home)
            while not recorder.spool.empty:
                try:
                    recorder.deliver()
                except UnavailableError as error:  # the service is at it
                    if "Another process" not in error.message:
                        raise
            recorder.close()

    def close(self) -> None:
        self.service.close()
        for line in self.lines:
            line.kill()
        self.trace.close()
        self.server.close()
        shutil.rmtree(self.folder, ignore_errors=True)
