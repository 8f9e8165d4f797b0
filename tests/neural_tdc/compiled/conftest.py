"""What the tests of compiled programs share: they find no program of another process."""

import pytest

from neural_tdc.compiled import program_store


@pytest.fixture(scope="module", autouse=True)
def stored_programs(tmp_path_factory):
    """Keep the programs that a module stores in a folder of its own; return the folder."""
    folder = tmp_path_factory.mktemp("programs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program_store, "store_folder", lambda: folder)
        yield folder
