"""Notes for the user on the names that a pickle refers to."""

from __future__ import annotations

from collections.abc import Iterable

from bale.io.faults import printable
from bale.io.sources.pickle.reader import Global
from bale.notes import Note

SHOWN = 5


def global_notes(found: Iterable[Global], loader: str = "torch.load(weights_only=False)") -> list[Note]:
    """At most one warning of dangerous names, which `loader` would follow, and one note of names that are unknown."""
    names = list(dict.fromkeys(found))
    dangerous = [each for each in names if _is_dangerous(each)]
    unknown = [each for each in names if not _is_dangerous(each) and not _is_known(each)]
    notes = []
    if dangerous:
        what = f"bale never runs it, but {loader} would"
        notes.append(Note("dangerous", f"the pickle refers to {_listed(dangerous)}; {what}"))
    if unknown:
        what = "unknown to bale: kept as it stands, never imported"
        notes.append(Note("unknown-name", f"the pickle refers to {_listed(unknown)}, {what}"))
    return notes


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Modules through which a pickle that is really loaded can run code, or reach files or the network.
_DANGEROUS = _words(
    """
    os posix nt ntpath posixpath subprocess pty runpy sys socket shutil importlib imp ctypes _ctypes code codeop
    commands webbrowser pickle _pickle cPickle dill cloudpickle joblib marshal operator _operator multiprocessing
    asyncio http httplib urllib urllib2 requests aiohttp ftplib smtplib telnetlib xmlrpc tempfile glob fileinput
    signal pip ensurepip venv timeit pdb bdb cProfile profile trace site zipimport pkgutil inspect distutils
    setuptools atexit threading _thread linecache
    """
)
_DANGEROUS_PACKAGES = _words(
    """
    torch.hub torch.jit torch.package torch.ops torch._inductor torch._dynamo torch.utils.cpp_extension
    torch.utils.collect_env torch.distributed.run torch.distributed.launch numpy.testing numpy.f2py numpy.distutils
    """
)
_DANGEROUS_NAMES = _words(
    """
    torch.load torch.save torch.compile torch.serialization.load numpy.load numpy.save numpy.fromfile numpy.loadtxt
    numpy.savetxt numpy.memmap
    """
)
_DANGEROUS_BUILTINS = _words(
    """
    eval exec execfile compile open file input raw_input getattr setattr delattr globals locals vars __import__ apply
    map filter reduce type breakpoint memoryview help exit quit
    """
)
_KNOWN_BUILTINS = _words(
    """
    dict list tuple set frozenset int long float complex bool str unicode bytes bytearray object slice range xrange
    Ellipsis NotImplemented
    """
)
_KNOWN_PACKAGES = _words("torch.nn torch.optim torch.storage torch.cuda torch.distributed collections _codecs")
_KNOWN_MODULES = _words(
    """
    torch torch._utils torch._tensor torch.tensor copyreg copy_reg numpy numpy.core.multiarray numpy._core.multiarray
    numpy.core.numeric numpy._core.numeric numpy.dtypes ml_dtypes argparse datetime pathlib
    """
)
_KNOWN_NAMES = _words(
    """
    torch.serialization._get_layout jax._src.array._reconstruct_array jax.array._reconstruct_array
    numpy.random._pickle.__randomstate_ctor joblib.numpy_pickle.NumpyArrayWrapper
    sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper
    """
)
_BUILTINS = _words("builtins __builtin__")


def _is_dangerous(found: Global) -> bool:
    if str(found) in _KNOWN_NAMES:
        return False
    # A dotted name reaches the attributes of a module: `torch.serialization` and `os.system`.
    parts = found.name.split(".")
    if found.module in _BUILTINS:
        return parts[0] in _DANGEROUS_BUILTINS or len(parts) > 1
    if found.module.split(".")[0] in _DANGEROUS or not _DANGEROUS.isdisjoint(parts):
        return True
    return str(found) in _DANGEROUS_NAMES or _within(found.module, _DANGEROUS_PACKAGES)


def _is_known(found: Global) -> bool:
    if found.module in _BUILTINS:
        return found.name in _KNOWN_BUILTINS
    return found.module in _KNOWN_MODULES or _within(found.module, _KNOWN_PACKAGES) or str(found) in _KNOWN_NAMES


def _within(module: str, packages: frozenset[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _listed(names: list[Global]) -> str:
    shown = ", ".join(printable(str(name)) for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
