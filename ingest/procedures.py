"""Command lines in, procedures out: how tests are run, how it is built, checked, formatted, started and deployed.

Only the general form of a command says how something is done here: one that names single files or tests says what somebody
was working on. A line of several commands is as good as its parts, since `a && b` succeeds only if both did.
"""

import re
from collections.abc import Iterator

MAX_COMMAND_chars = 120
_SCRIPT = (
    r"(?:(?:npm|pnpm|yarn|bun)(?: (?:--filter|-F|-w|--workspace|--prefix|-C)[ =]\S+)?(?: run)?(?: (?:-s|--silent))?)"
)
_TASK = r"(?:make|just|task|mise run|mise r|nox -s|tox -e|rake|bundle exec rake|invoke|inv|poe|hatch run|pdm run|deno task|composer(?: run)?)"
_PYTHON = r"(?:(?:uv run|poetry run|pdm run|hatch run|pipenv run|rye run|\S*python3?(?:\.\d+)? -m|\S*/bin/python3? -m) )*(?:\S*/bin/)?"
_NODE = r"(?:(?:npx|pnpm exec|pnpm dlx|bunx(?: --bun)?|yarn(?: dlx)?|bun x) )?"
_FLAGS = r"(?: -{1,2}[A-Za-z][\w-]*(?:=[\w./:,%-]+)?)*"
_ALL = r"(?: (?:\.|\./?\.\.\.|(?:tests?|src|lib|app)/?))*"
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(f"(?:{'|'.join(forms)})\\Z"))
    for kind, forms in (
        (
            "test command",
            (
                rf"{_SCRIPT} t(?:ests?)?(?::(?!watch|update|debug)[\w:-]+)?",
                rf"{_TASK} tests?(?:[:-](?!watch|update|debug)[\w:-]+)?",
                rf"{_PYTHON}pytest{_FLAGS}{_ALL}{_FLAGS}",
                rf"{_PYTHON}(?:unittest(?: discover)?|tox|nox|manage\.py test){_FLAGS}",
                rf"{_NODE}(?:vitest run|jest|mocha|ava|playwright test|cypress run){_FLAGS}",
                rf"cargo (?:nextest run|test){_FLAGS}",
                rf"go test{_FLAGS} \./\.\.\.{_FLAGS}",
                rf"(?:\./)?(?:mvnw?|gradlew?){_FLAGS}(?: clean)? (?:test|verify|check){_FLAGS}",
                rf"(?:dotnet|mix|swift|deno|flutter|dart|zig build|rails|bin/rails|php artisan) test{_FLAGS}",
                rf"(?:bundle exec )?rspec{_FLAGS}",
                rf"(?:\./)?(?:vendor/bin/)?(?:phpunit|pest){_FLAGS}",
                rf"ctest{_FLAGS}",
            ),
        ),
        (
            "build command",
            (
                rf"{_SCRIPT} build(?::(?!watch|dev)[\w:-]+)?",
                rf"{_TASK} (?:build|all)(?:[:-][\w:-]+)?",
                rf"cargo build{_FLAGS}",
                rf"go build{_FLAGS} \./\.\.\.",
                rf"(?:\./)?(?:mvnw?|gradlew?){_FLAGS}(?: clean)? (?:package|install|build|assemble){_FLAGS}",
                rf"{_NODE}(?:next|vite|nuxt|astro|tsup|rollup|webpack|svelte-package|remix|ng) build{_FLAGS}",
                rf"docker(?: compose|-compose) build{_FLAGS}",
                rf"(?:uv|poetry|hatch|pdm|flit|dotnet|swift|zig|mix) (?:build|compile){_FLAGS}",
                r"cmake --build \S+",
                rf"\S*python3? -m build{_FLAGS}",
            ),
        ),
        (
            "lint command",
            (
                rf"{_SCRIPT} (?:lint|check|typecheck|type-check|types|tsc|eslint)(?::(?!fix|watch|write)[\w:-]+)?",
                rf"{_TASK} (?:lint|check|typecheck|type-check|vet|clippy)(?:[:-](?!fix)[\w:-]+)?",
                rf"{_PYTHON}(?:ruff check|flake8|mypy|pyright|pylint){_FLAGS}{_ALL}{_FLAGS}",
                rf"{_NODE}(?:eslint|biome (?:check|lint)|oxlint|prettier --check){_FLAGS}{_ALL}",
                rf"{_NODE}tsc{_FLAGS} --noEmit{_FLAGS}",
                rf"cargo (?:clippy|check){_FLAGS}(?: -- -D warnings)?",
                rf"(?:golangci-lint run|go vet|staticcheck){_FLAGS}(?: \./\.\.\.)?",
                rf"pre-commit run{_FLAGS}",
                rf"(?:bundle exec )?rubocop{_FLAGS}",
            ),
        ),
        (
            "format command",
            (
                rf"{_SCRIPT} (?:fmt|format|prettier|lint:fix|format:write|check:fix)",
                rf"{_TASK} (?:fmt|format)",
                rf"{_PYTHON}(?:ruff format|black|isort){_FLAGS}{_ALL}",
                rf"{_NODE}(?:prettier --write|biome format --write|biome check --write){_FLAGS}{_ALL}",
                rf"cargo fmt{_FLAGS}",
                r"(?:gofmt|goimports) -w \.|go fmt \./\.\.\.",
                r"mix format|dotnet format|swift-format -i -r \.",
            ),
        ),
        (
            "run command",
            (
                rf"{_SCRIPT} (?:dev|start|serve|preview)(?::[\w:-]+)?",
                rf"{_TASK} (?:dev|run|start|serve|up)(?:[:-][\w:-]+)?",
                rf"{_PYTHON}(?:uvicorn|gunicorn|hypercorn) [\w.]+:\w+{_FLAGS}(?: --port \d+)?{_FLAGS}",
                rf"{_PYTHON}(?:flask run|fastapi dev|streamlit run \S+|manage\.py runserver){_FLAGS}",
                rf"docker(?: compose|-compose) up{_FLAGS}",
                rf"{_NODE}(?:next|vite|nuxt|astro|wrangler) dev{_FLAGS}",
                rf"(?:rails|bin/rails) server{_FLAGS}|bin/dev|php artisan serve|mix phx\.server|iex -S mix phx\.server",
            ),
        ),
        (
            "deploy command",
            (
                rf"{_SCRIPT} (?:deploy|release)(?::[\w:-]+)?",
                rf"{_TASK} (?:deploy|release)(?:[:-][\w:-]+)?",
                rf"{_NODE}vercel(?: deploy)? --prod{_FLAGS}",
                rf"(?:fly|flyctl|netlify|firebase|gcloud app|serverless|sls|cdk|railway) (?:deploy|up){_FLAGS}",
                rf"{_NODE}wrangler (?:deploy|publish|pages deploy \S+){_FLAGS}",
                rf"(?:kubectl|terraform) apply{_FLAGS}(?: \S+)?",
            ),
        ),
    )
)
_INSTALLS = (
    (re.compile(r"(?P<value>pnpm|yarn|bun|npm) (?:install|i|ci|add)\b(?!.* (?:-g|--global)\b)"), "javascript"),
    (
        re.compile(
            r"(?P<value>uv) (?:sync|add|lock|pip install)\b|(?P<other>poetry|pdm|pipenv|rye|conda) (?:install|add|sync|lock)\b"
        ),
        "python",
    ),
)
_HERE = re.compile(r"cd (?P<folder>[^\s&;|]+)\s*&&\s*")
_CUT = re.compile(r"(?:\s*(?:2>&1|[12]?>\s*/dev/null|\|\s*(?:tail|head|tee|cat|less)\b[^|;&]*))+\s*\Z")
_VARIABLES = re.compile(r"^(?:[A-Z_][A-Z0-9_]*=\S*\s+)+")
_ACTIVATES = re.compile(r"(?:source|\.) \S*/activate\s*\Z")
NOT_THERE = re.compile(
    r"command not found|not recognized as|no such file or directory|missing script|unknown (?:command|script|task)|no rule to make target|no task|could not find",
    re.IGNORECASE,
)
"""What a shell prints where there is no such command, also where a pipe hides that it failed."""


def procedures(command: str, *, folder: str) -> Iterator[tuple[str, str, str]]:
    """(relation, value, subject) of all that a command line shows. Each value stands in it, character for character.

    `folder`: where it ran; going there says nothing, going elsewhere belongs to the command.

    >>> list(procedures("cd /work/shop && mise run fmt && uv run pytest -q 2>&1 | tail -5", folder="/work/shop"))
    [('format command', 'mise run fmt', ''), ('test command', 'uv run pytest -q', '')]
    >>> list(procedures("cd web && pnpm test", folder="/work/shop")), list(procedures("pytest tests/test_a.py", folder=""))
    ([('test command', 'cd web && pnpm test', '')], [])
    """
    line = command.strip()
    if (
        "\n" in line
        or len(line) > 4 * MAX_COMMAND_chars
        or "REDACTED" in line
        or any(mark in line for mark in ("||", ";", "`", "$(", "<<"))
    ):
        return
    line = _CUT.sub("", line)
    there = ""
    if (moved := _HERE.match(line)) is not None:
        line = line[moved.end() :]
        target = moved["folder"].strip("'\"").rstrip("/")
        if target.startswith(("/", "~")) and target != folder.rstrip("/"):
            return
        there = "" if target.startswith(("/", "~")) or target == "." else moved[0]
    if "|" in line:
        return
    parts = [part for part in re.split(r"\s*&&\s*", line) if part]
    for number, part in enumerate(parts):
        said = _VARIABLES.sub("", part)
        if len(said) > MAX_COMMAND_chars or _ACTIVATES.match(said) or said.startswith("cd "):
            if said.startswith("cd "):
                return
            continue
        for relation, pattern in KINDS:
            if pattern.match(said):
                whole = there + said if number == 0 else said
                if number == 0 or not there:
                    yield relation, whole if whole in command else said, ""
                break
        for pattern, ecosystem in _INSTALLS:
            if (found := pattern.match(said)) is not None:
                yield "package manager", found["value"] or found["other"], ecosystem


_VERSION_OF = re.compile(
    r"(?P<subject>node|python3?|go|ruby|rustc|java|php|deno|bun|pnpm|npm|uv|cargo) (?:--version|-V|-v|version)\Z"
)
_VERSION = re.compile(r"(?:(?:Python|ruby|rustc|go version go|deno|PHP|uv|cargo) ?)?(?P<value>v?\d+\.\d+(?:\.\d+)*)\b")


def version_printed(command: str, output: str) -> tuple[str, str, int] | None:
    r"""(subject, value, where it stands in the output) of a command that did nothing but print a version.

    >>> version_printed("node --version", "v20.11.1\n"), version_printed("node build.js", "v20")
    (('node', 'v20.11.1', 0), None)
    """
    asked = _VERSION_OF.match(_CUT.sub("", command.strip())) if len(command) <= MAX_COMMAND_chars else None
    found = _VERSION.match(output) if asked is not None and len(output) < 200 else None
    if asked is None or found is None:
        return None
    return asked["subject"].removesuffix("3"), found["value"], found.start("value")
