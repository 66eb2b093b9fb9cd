"""Which words of a sentence name a tool, a database, a place to deploy to: by lists, code marks and the look of the word."""

import re

TOOLS = frozenset(
    """pnpm npm yarn bun uv poetry pip pipenv pdm conda hatch cargo maven gradle make just mise bazel nx turborepo lerna
    postgres postgresql mysql mariadb sqlite mongodb redis valkey dynamodb duckdb kafka rabbitmq nats celery sidekiq s3 minio
    docker podman kubernetes helm terraform ansible nginx caddy traefik
    pytest unittest vitest jest mocha playwright cypress ava rspec minitest phpunit testify nextest hypothesis
    ruff black isort flake8 pylint mypy pyright eslint prettier biome oxlint clippy rustfmt gofmt golangci-lint rubocop
    react vue svelte solid angular next nextjs nuxt remix astro htmx alpine tailwind bootstrap sass vite webpack esbuild rollup
    fastapi flask django starlette litestar express fastify hono koa nestjs rails sinatra laravel symfony phoenix axum actix gin echo fiber chi spring
    sqlalchemy prisma drizzle typeorm sequelize knex alembic diesel sqlx gorm ecto pydantic zod valibot
    typescript javascript python rust go golang ruby elixir kotlin swift java php zig
    graphql grpc trpc rest websockets protobuf openapi httpx requests axios fetch
    git jujutsu github gitlab bitbucket circleci jenkins dependabot renovate changesets husky lefthook pre-commit commitizen
    openai anthropic ollama llama.cpp vllm langchain lancedb qdrant chroma pgvector faiss sentry datadog prometheus grafana""".split()
)
DATABASES = r"postgres(?:ql)?|mysql|mariadb|sqlite|mongodb|dynamodb|supabase|cockroachdb|duckdb|neo4j|firestore|planetscale|turso|neon|redis|valkey|lancedb|clickhouse|cassandra|oracle|sql server|mssql"
PLATFORMS = (
    r"vercel|netlify|fly\.io|heroku|railway|render\.com|aws lambda|lambda|cloudflare(?: (?:workers|pages))?|github pages|gitlab pages|"
    r"kubernetes|k8s|gke|eks|aks|cloud run|app engine|azure(?: [a-z]+)?|digitalocean|hetzner|firebase(?: hosting)?|modal|ecs|ec2|"
    r"app store|play store|pypi|npm|crates\.io|docker hub|testflight|raspberry pi"
)
NAME = r"(?:`[^`\n]{2,40}`|@?[A-Za-z][\w./+#@-]{1,40})"
"""What may be a name; `named` says whether it is."""
_LOOKS_LIKE_ONE = re.compile(r"\w[._/@+#-]\w|\d|[a-z][A-Z]|^[A-Z]{2,6}$|^@")
_PLAIN_WORDS = frozenset(
    "I A The This That It We You They Our Your My One Two All Any Each Some Instead Not No Yes OK And Or".split()
)


def named(word: str) -> str:
    """The name that a word is, without code marks and the full stop behind it; '' for a word that names nothing.

    >>> named("`pnpm`"), named("Redis."), named("ripgrep-all"), named("on/off"), named("This")
    ('pnpm', 'Redis', 'ripgrep-all', '', '')
    """
    bare = word.strip("`").rstrip(".,:;!?-/") if word.startswith("`") else word.rstrip(".,:;!?-/")
    if word.startswith("`"):
        return bare if bare and " " not in bare and not bare.startswith("-") else ""
    if bare in _PLAIN_WORDS or len(bare) < 2:
        return ""
    if "/" in bare and not bare.startswith("@") and not re.search(r"[\d._-]", bare):
        return ""  # `on/off`, `yes/no`
    return bare if bare.lower() in TOOLS or _LOOKS_LIKE_ONE.search(bare) else ""
