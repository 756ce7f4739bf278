"""A bucket without a cloud: the storage's HTTP interface, served from memory by this process."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import gcsfs
import pytest
from etils.epath import backend
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound

# Who reads which: gcsfs (epath, all small files), TensorStore (Orbax's arrays), ArrayRecord.
ENDPOINTS = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL", "CLOUD_STORAGE_EMULATOR_ENDPOINT")


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The name of an empty bucket, which processes started meanwhile see too."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    serving = server.create_server("localhost", port, in_memory=True, default_bucket="bucket")
    with pytest.MonkeyPatch.context() as patch:
        for name in ENDPOINTS:
            patch.setitem(os.environ, name, f"http://localhost:{port}")
        patch.setitem(os.environ, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        logging.getLogger("gcsfs").setLevel(logging.ERROR)  # here it was imported before
        for _, methods in server.HANDLERS:
            if methods.get(server.GET) in (server.objects.get, server.objects.download):
                patch.setitem(methods, server.GET, _with_generation(methods[server.GET]))
        forget()
        serving.start()
        try:
            yield "gs://bucket"
        finally:
            serving.stop()
            forget()


def forget() -> None:
    """Ask the server anew, and know of no earlier one."""
    gcsfs.GCSFileSystem.clear_instance_cache()
    backend._FileSystemSpecBackend._get_filesystem.cache_clear()


def _with_generation(get: Callable) -> Callable:
    """Answers with the header by which TensorStore tells one content from the next."""

    def handler(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
        get(request, response, storage, *args, **kwargs)
        where = (request.params.get(name) for name in ("bucket_name", "object_id"))
        with contextlib.suppress(NotFound):
            response["x-goog-generation"] = storage.get_file_obj(*where)["generation"]

    return handler
