"""The images of machines: the same one at every start, pulled when it is not here."""

from __future__ import annotations

from services.apimachinery.runtime.reconciler import Waiting
from services.libvirt_provider.images.cache import Image, ImageCache, PullFailed
from services.libvirt_provider.model.machine import Record
from services.libvirt_provider.model.state import READY
from services.libvirt_provider.recorder import Recorder
from services.libvirt_provider.store import MachineStore

ACTION = "PullImage"


class PullError(Exception):
    """An image could not be had; the pull is tried again with back-off."""


class MachineImages:
    """Finds a machine's images in the cache and remembers in its record which ones they were."""

    def __init__(self, cache: ImageCache, store: MachineStore, recorder: Recorder) -> None:
        self._cache = cache
        self._store = store
        self._recorder = recorder

    async def get(self, record: Record, reference: str) -> Image | None:
        """The image; None for an empty reference. Raises Waiting while it is pulled, PullError when that failed."""
        if not reference:
            return None
        # The store's newest copy: an earlier disk of the same pass may have found the image.
        digest = (self._store.get(record.id) or record).image_digests.get(reference, "")
        image = await self._cache.known(digest) if digest else None
        return image or await self._pulled(record, reference)

    async def _pulled(self, record: Record, reference: str) -> Image:
        outcome = self._cache.pull(reference)
        text = f"image {reference}"
        if outcome is None:
            self._recorder.normal(record.machine, "PullingImage", ACTION, f"{text} is being pulled")
            raise Waiting(READY, "PullingImage", f"{text} is being pulled")
        if isinstance(outcome, PullFailed):
            self._recorder.warning(record.machine, "ImagePullFailed", ACTION, f"{text}: {outcome.message}")
            raise PullError(f"{text}: {outcome.message}")
        self._recorder.normal(record.machine, "ImagePullSucceeded", ACTION, f"{text} is {outcome.digest}")

        def keep(stored: Record) -> None:
            stored.image_digests[reference] = outcome.digest

        await self._store.observe(record.id, keep)
        return outcome
