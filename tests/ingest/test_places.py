"""Where applications keep their data, on three systems, told from the environment alone."""

from pathlib import Path

from ingest.readers.places import EDITORS, config_folders, data_folders, editor_folders, named_folder

HOME = Path("/home/mira")


def test_linux_and_macos_places_lie_below_the_home_folder() -> None:
    env = {"HOME": str(HOME)}
    assert config_folders(env, "film") == (HOME / ".config/film", HOME / "Library/Application Support/film")
    assert data_folders(env, "film") == (HOME / ".local/share/film", HOME / "Library/Application Support/film")


def test_xdg_variables_move_the_places() -> None:
    env = {"HOME": str(HOME), "XDG_CONFIG_HOME": "/srv/config", "XDG_DATA_HOME": "~/data"}
    assert Path("/srv/config/film") in config_folders(env, "film")
    assert HOME / "data/film" in data_folders(env, "film")
    assert not [folder for folder in (*config_folders(env), *data_folders(env)) if ".local" in folder.parts]


def test_windows_places_are_those_that_its_variables_name() -> None:
    env = {"HOME": str(HOME), "APPDATA": "/c/Roaming", "LOCALAPPDATA": "/c/Local"}
    assert config_folders(env, "film")[-1] == Path("/c/Roaming/film")
    assert data_folders(env, "film")[-2:] == (Path("/c/Local/film"), Path("/c/Roaming/film"))


def test_windows_places_are_found_by_the_profile_where_a_client_hands_nothing_else_on() -> None:
    env = {"HOME": str(HOME), "USERPROFILE": "/c/Users/Mira"}
    assert config_folders(env, "film")[-1] == Path("/c/Users/Mira/AppData/Roaming/film")
    assert data_folders(env, "film")[-2:] == tuple(
        Path("/c/Users/Mira/AppData", name, "film") for name in ("Local", "Roaming")
    )


def test_every_editor_has_its_user_folder_on_every_system_and_on_servers() -> None:
    found = editor_folders({"HOME": str(HOME), "APPDATA": "/c/Roaming"}, "globalStorage")
    for host in EDITORS:
        assert HOME / ".config" / host / "User/globalStorage" in found
        assert HOME / "Library/Application Support" / host / "User/globalStorage" in found
        assert Path("/c/Roaming") / host / "User/globalStorage" in found
    assert HOME / ".vscode-server/data/User/globalStorage" in found


def test_an_empty_variable_names_nothing() -> None:
    assert named_folder({"CODEX_HOME": " "}, "CODEX_HOME") is None
