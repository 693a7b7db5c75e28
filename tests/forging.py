"""Archives taken apart and put together again with other content, so that every digest is right."""

from __future__ import annotations

import json
import struct
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import xxhash
import zstandard

JSON = dict[str, Any]


@dataclass
class Apart:
    """The manifest as JSON, stored chunks by unit, part and number, and the skeleton as it is stored."""

    room: int
    manifest: JSON
    chunks: dict[tuple[int, int, int], bytes]
    skeleton: bytes

    @classmethod
    def of(cls, data: bytes) -> Apart:
        (room,) = struct.unpack_from("<Q", data)
        header, payload = json.loads(data[8 : 8 + room]), data[8 + room :]

        def part(name: str) -> bytes:
            begin, end = header[name]["data_offsets"]
            return payload[begin:end]

        manifest = json.loads(zstandard.ZstdDecompressor().decompress(part(":manifest")))
        at, chunks = 0, {}
        for number, unit in enumerate(manifest["units"]):
            for place, stored in enumerate(unit["parts"]):
                for index, chunk in enumerate(stored["chunks"]):
                    chunks[number, place, index] = payload[at : at + chunk[1]]
                    at += chunk[1]
        return cls(room, manifest, chunks, part(":skeleton"))

    def copy(self) -> Apart:
        return Apart(self.room, deepcopy(self.manifest), dict(self.chunks), self.skeleton)

    def put(self, key: tuple[int, int, int], data: bytes) -> None:
        """Store other bytes for a chunk, with their size and digest."""
        unit, part, index = key
        self.manifest["units"][unit]["parts"][part]["chunks"][index][1:] = len(data), xxhash.xxh3_64_hexdigest(data)
        self.chunks[key] = data

    def together(self) -> bytes:
        """The archive. Raises whatever a manifest without sense makes its own header raise."""
        manifest, entries, gaps = self.manifest, [], 0
        for unit in manifest["units"]:
            views = unit["views"]
            for part in unit["parts"]:
                size = sum(chunk[1] for chunk in part["chunks"])
                plain = part["storage"] == [""] and part["dtype"] != "C128"
                name = f"{views[0][0]}:{part['name']}" if views else f":gap.{gaps}"
                entries.append((name, part["dtype"] if plain else "U8", part["shape"] if plain else [size], size))
            gaps += not views
        text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        frame = zstandard.ZstdCompressor().compress(text.encode("utf-8", "surrogatepass"))
        skeleton = manifest["skeleton"]["stored"]
        entries += [(":skeleton", "U8", [skeleton], skeleton), (":manifest", "U8", [len(frame)], len(frame))]
        version = ".".join(map(str, manifest["format"]))
        metadata = {"bale": version, "manifest": xxhash.xxh3_128_hexdigest(frame)}
        written, at = ['"__metadata__":' + json.dumps(metadata, separators=(",", ":"))], 0
        for name, dtype, shape, size in entries:
            entry = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
            written.append(json.dumps(name, ensure_ascii=False) + ":" + json.dumps(entry, separators=(",", ":")))
            at += size
        head = ("{" + ",".join(written) + "}").encode("utf-8", "surrogatepass")
        room = max(self.room, (len(head) + 7) // 8 * 8)
        return struct.pack("<Q", room) + head.ljust(room) + b"".join(self.chunks.values()) + self.skeleton + frame
