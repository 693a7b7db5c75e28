"""What a user should know of the names that a pickle refers to."""

from __future__ import annotations

from collections.abc import Iterable

from bale.io.pickle_reader import Global

SHOWN = 5
NAME_LENGTH = 100

# Modules through which a pickle that is really loaded can run code, reach files or the network.
_DANGEROUS = frozenset(
    """
    os posix nt ntpath posixpath subprocess pty runpy sys socket shutil importlib imp ctypes _ctypes code codeop commands
    webbrowser pickle _pickle cPickle dill cloudpickle joblib marshal operator _operator multiprocessing asyncio http
    httplib urllib urllib2 requests aiohttp ftplib smtplib telnetlib xmlrpc tempfile glob fileinput signal pip ensurepip
    venv timeit pdb bdb cProfile profile trace site zipimport pkgutil inspect distutils setuptools atexit threading
    _thread linecache
    """.split()
)
_DANGEROUS_PACKAGES = (
    "torch.hub torch.jit torch.package torch.ops torch._inductor torch._dynamo torch.utils.cpp_extension "
    "torch.utils.collect_env torch.distributed.run torch.distributed.launch numpy.testing numpy.f2py numpy.distutils"
).split()
_DANGEROUS_NAMES = frozenset(
    "torch.load torch.save torch.compile torch.serialization.load numpy.load numpy.save numpy.fromfile "
    "numpy.loadtxt numpy.savetxt numpy.memmap".split()
)
_DANGEROUS_BUILTINS = frozenset(
    """
    eval exec execfile compile open file input raw_input getattr setattr delattr globals locals vars __import__ apply map
    filter reduce type breakpoint memoryview help exit quit
    """.split()
)
_SAFE_BUILTINS = frozenset(
    """
    dict list tuple set frozenset int long float complex bool str unicode bytes bytearray object slice range xrange
    Ellipsis NotImplemented
    """.split()
)
_KNOWN_PACKAGES = "torch.nn torch.optim torch.storage torch.cuda torch.distributed collections _codecs".split()
_KNOWN_MODULES = frozenset(
    """
    torch torch._utils torch._tensor torch.tensor copyreg copy_reg numpy numpy.core.multiarray numpy._core.multiarray
    numpy.core.numeric numpy._core.numeric numpy.dtypes argparse datetime pathlib
    """.split()
)
_KNOWN_NAMES = frozenset({"torch.serialization._get_layout"})


def global_notes(found: Iterable[Global]) -> list[str]:
    """At most one warning of dangerous names, and one note of names that are merely unknown."""
    names = list(dict.fromkeys(found))
    dangerous = [each for each in names if _is_dangerous(each)]
    unknown = [each for each in names if not _is_dangerous(each) and not _is_known(each)]
    notes = []
    if dangerous:
        notes.append(
            f"the pickle refers to {_listed(dangerous)}; bale never runs it, but torch.load(weights_only=False) would"
        )
    if unknown:
        notes.append(f"the pickle refers to {_listed(unknown)}, unknown to bale: kept as it stands, never imported")
    return notes


def printable(text: str) -> str:
    """A name from the file as it may be shown: without control characters, and not endless."""
    short = text if len(text) <= NAME_LENGTH else text[:NAME_LENGTH] + "..."
    return "".join(letter for letter in short if letter.isprintable())


def _is_dangerous(found: Global) -> bool:
    # A dotted name reaches the attributes of a module: `torch.serialization` and `os.system`.
    parts = found.name.split(".")
    root = found.module.split(".")[0]
    if root in ("builtins", "__builtin__"):
        return parts[0] in _DANGEROUS_BUILTINS
    if root in _DANGEROUS or not _DANGEROUS.isdisjoint(parts):
        return True
    return str(found) in _DANGEROUS_NAMES or _within(found.module, _DANGEROUS_PACKAGES)


def _is_known(found: Global) -> bool:
    if found.module in ("builtins", "__builtin__"):
        return found.name in _SAFE_BUILTINS
    return found.module in _KNOWN_MODULES or _within(found.module, _KNOWN_PACKAGES) or str(found) in _KNOWN_NAMES


def _within(module: str, packages: list[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _listed(names: list[Global]) -> str:
    shown = ", ".join(printable(str(name)) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
