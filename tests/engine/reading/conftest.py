"""The folder of weights that tests of folders have."""

from tests.io.folders.conftest import folder as folder
