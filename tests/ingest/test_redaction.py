"""Planted secrets are cut, look-alikes stay. Every secret is put together here, so that no scanner mistakes this file."""

import base64
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.redaction import redact_event, redact_thread
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.redaction import RULE_IDS, count, hits, redact

HEX = "0a1b2c3d4e5f6789" * 10
MIXED = "A1b2C3d4E5f6G7h8" * 20
UPPER = "A2B3C4D5E6F7G2H3" * 10
WORD = "Tr0ub4dor" + "&3"
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0" + "." + MIXED[:43]
PEM = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIB"


def pem(kind: str, newline: str = "\n", *, end: bool = True) -> str:
    lines = [f"-----BEGIN {kind}-----", *[PEM] * 4, "AQAB12=="]
    return newline.join(lines + [f"-----END {kind}-----"] * end)


TOKENS = {
    "anthropic-key": ["sk-" + "ant-api03-" + MIXED[:93] + "AA", "sk-" + "ant-admin01-" + MIXED[:95]],
    "openrouter-key": ["sk-" + "or-v1-" + HEX[:64]],
    "openai-key": [
        "sk-" + MIXED[:48],
        "sk-" + "proj-" + MIXED[:60] + "_T3Blbk-" + MIXED[:60],
        "sk-" + "svcacct-" + MIXED[:60],
    ],
    "github-token": [
        *(f"gh{kind}_" + "A1b2" * 9 for kind in "pousr"),
        "github" + "_pat_" + MIXED[:22] + "_" + MIXED[:59],
    ],
    "gitlab-token": ["glpat" + "-" + MIXED[:20], "glptt" + "-" + HEX[:40], "glrt" + "-" + MIXED[:20]],
    "slack-token": [
        "xoxb" + "-123456789012-1234567890123-" + MIXED[:24],
        "xoxp" + "-1234567890-1234567890-1234567890-" + HEX[:32],
        "xapp" + "-1-A0123456789-1234567890123-" + HEX[:64],
        "xoxe." + "xoxp-1-" + MIXED[:160],
    ],
    "stripe-key": ["sk_" + "live_" + MIXED[:24], "rk_" + "live_" + MIXED[:24], "sk_" + "test_" + MIXED[:24]],
    "webhook-secret": ["whsec" + "_" + MIXED[:32]],
    "google-oauth": ["GOCSPX" + "-" + MIXED[:28], "ya29" + "." + MIXED[:80]],
    "google-key": ["AIza" + MIXED[:35]],
    "npm-token": ["npm" + "_" + MIXED[:36]],
    "pypi-token": ["pypi" + "-AgEIcHlwaS5vcmc" + MIXED[:120]],
    "huggingface-token": ["hf" + "_" + "aBcDeFgHiJ" * 3 + "kLmN"],
    "sendgrid-key": ["SG" + "." + MIXED[:22] + "." + MIXED[:43]],
    "mailgun-key": ["key" + "-" + HEX[:32]],
    "digitalocean-token": ["dop" + "_v1_" + HEX[:64]],
    "shopify-token": [f"shp{kind}_" + HEX[:32] for kind in ("at", "ca", "pa", "ss")],
    "square-token": ["sq0atp" + "-" + MIXED[:22]],
    "linear-key": ["lin" + "_api_" + MIXED[:40]],
    "notion-token": ["ntn" + "_" + "12345678901" + MIXED[:35], "secret" + "_" + MIXED[:43]],
    "vercel-token": ["vcp" + "_" + MIXED[:24]],
    "cloudflare-key": ["v1.0" + "-" + HEX[:24] + "-" + HEX[:146]],
    "supabase-key": ["sbp" + "_" + HEX[:40], "sb" + "_secret_" + MIXED[:31]],
    "doppler-token": ["dp" + ".pt." + MIXED[:43], "dp" + ".st.prd." + MIXED[:43]],
    "grafana-token": ["glsa" + "_" + MIXED[:32] + "_" + HEX[:8], "glc" + "_" + MIXED[:60]],
    "vault-token": ["hvs" + "." + MIXED[:95]],
    "age-key": ["AGE" + "-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"[:29] * 2],
    "1password-token": ["ops" + "_eyJ" + MIXED[:260]],
    "groq-key": ["gsk" + "_" + MIXED[:52]],
    "perplexity-key": ["pplx" + "-" + MIXED[:48]],
    "xai-key": ["xai" + "-" + MIXED[:80]],
    "replicate-token": ["r8" + "_" + MIXED[:37]],
    "nvidia-key": ["nvapi" + "-" + MIXED[:64]],
    "langsmith-key": ["lsv2" + "_pt_" + HEX[:32] + "_" + HEX[:10]],
    "tavily-key": ["tvly" + "-" + MIXED[:32]],
    "pinecone-key": ["pcsk" + "_" + MIXED[:60]],
    "figma-token": ["figd" + "_" + MIXED[:40]],
    "docker-token": ["dckr" + "_pat_" + MIXED[:27]],
    "tailscale-key": ["tskey" + "-auth-" + MIXED[:12] + "-" + MIXED[:32]],
    "netlify-token": ["nfp" + "_" + MIXED[:36]],
    "resend-key": ["re" + "_" + MIXED[:8] + "_" + MIXED[:24]],
    "fly-token": ["fo1" + "_" + MIXED[:43]],
    "posthog-key": ["phx" + "_" + MIXED[:43]],
    "newrelic-key": ["NRAK" + "-" + UPPER[:27]],
    "planetscale-token": ["pscale" + "_tkn_" + MIXED[:43], "pscale" + "_pw_" + MIXED[:43]],
    "postman-key": ["PMAK" + "-" + HEX[:24] + "-" + HEX[:34]],
    "pulumi-token": ["pul" + "-" + HEX[:40]],
    "rubygems-token": ["rubygems" + "_" + HEX[:48]],
    "brevo-key": ["xkeysib" + "-" + HEX[:64] + "-" + MIXED[:16]],
    "sentry-token": ["sntryu" + "_" + HEX[:64], "sntrys" + "_eyJ" + MIXED[:120]],
    "shippo-token": ["shippo" + "_live_" + HEX[:40]],
    "duffel-token": ["duffel" + "_live_" + MIXED[:43]],
    "dynatrace-token": ["dt0c01" + "." + MIXED[:24] + "." + MIXED[:64]],
    "heroku-key": ["HRKU" + "-AA" + MIXED[:58]],
    "prefect-token": ["pnu" + "_" + MIXED[:36]],
    "readme-key": ["rdme" + "_" + HEX[:70]],
    "circleci-token": ["CCIPAT" + "_" + MIXED[:22] + "_" + HEX[:40]],
    "buildkite-token": ["bkua" + "_" + HEX[:40]],
    "terraform-token": [MIXED[:14] + ".atlasv1" + "." + MIXED[:64]],
    "aws-key-id": ["AKIA" + UPPER[:16], "ASIA" + UPPER[:16]],
    "jwt": [JWT, JWT.rpartition(".")[0]],
    "twilio-key": ["SK" + HEX[:32]],
    "databricks-token": ["dapi" + HEX[:32]],
    "telegram-token": ["123456789" + ":AA" + MIXED[:33]],
    "azure-secret": ["abc8" + "Q~" + MIXED[:34]],
    "atlassian-token": ["ATATT3" + MIXED[:186]],
    "private-key": [
        pem("PRIVATE KEY"),
        pem("RSA PRIVATE KEY"),
        pem("OPENSSH PRIVATE KEY", "\\n"),
        pem("EC PRIVATE KEY", "\n    "),
        pem("PGP PRIVATE KEY BLOCK"),
        pem("ENCRYPTED PRIVATE KEY", end=False),
        pem("RSA PRIVATE KEY", "\n+"),
    ],
}
"""Secrets that say themselves what they are, by the rule that must cut them."""

IN_CONTEXT = {
    # A text with the secret between « and ».
    "url-password": [
        "postgres://admin:«hunter2»@db.example:5432/shop",
        "redis://:«s3cr3tpw»@localhost:6379/0",
        "https://ann:«p@ss:w0rd»@host.example/path",
        "git clone https://oauth2:«q8Zr2LmX0p»@git.example/a.git",
    ],
    "url-token": [f"git clone https://«{MIXED[:40]}»@git.example/a.git"],
    "webhook-url": [
        "https://hooks.slack.com/services/«T01234567/B01234567/" + MIXED[:24] + "»",
        "https://discord.com/api/webhooks/123456789012345678/«" + MIXED[:68] + "»",
    ],
    "azure-signature": ["https://x.blob.core.windows.net/c?sv=2024&sig=«" + MIXED[:43] + "%3D»&se=1"],
    "authorization": [
        "Authorization: Bearer «abcdef1234567890»",
        "{'Authorization': 'Bearer «q8Zr2LmX»'}",
        'curl -H "authorization: token «abcdef1234»" x',
    ],
    "bearer": ["auth = 'Bearer «abcdef1234567890»'"],
    "basic": [
        "Authorization: Basic «" + base64.b64encode(b"ann:" + WORD.encode()).decode() + "»",
        '{"auths": {"r.example": {"auth": "«' + base64.b64encode(b"ann:" + WORD.encode()).decode() + '»"}}}',
    ],
    "curl-user": ["curl -s -u admin:«hunter2» https://host.example"],
    "discord-token": [
        "discord: «" + base64.b64encode(b"123456789012345678").decode() + "." + MIXED[:6] + "." + MIXED[:27] + "»"
    ],
    "assigned-password": [
        "export DB_PASSWORD=«hunter2» && run",
        "DB_PASSWORD=«p@ss$w0rd!&x»",
        'DB_PASSWORD="«correct horse 7»"',
        "PASSWORD=«correcthorsebatterystaple»",
        '{"password":"«hunter2!»", "user": "ann"}',
        '{\\"password\\": \\"«' + WORD + '»\\"}',
        "password: «hunter2»",
        f"db_password = '«{WORD}»'",
        "mysql -u root --password=«Tr0ub4dor3» shop",
        "cli --password «hunter2x» --verbose",
        "<password>«hunter2x»</password>",
        "machine host.example login ann password «hunter2»",
        "Server=db;Password=«Tr0ub4dor3»;Database=shop",
        "A=b\\nDB_PASS=«abc123x»\\nC=d",
        "the password is «hunter2»",
        'passphrase: "«open sesame 42»"',
        'password = "«pa\'s`s1w»"',
        'password = "«pa\\\\ss\\"1w»" # old',
        'DB_PASSWORD="«' + MIXED[:300] + '»"\nX=1',
        "DB_PASSWORD=«" + MIXED[:300] + "»;X=1",
        'password: str = "«Tr0ub4dor3»"',
        "密码 password：«hunter2»",
    ],
    "assigned-secret": [
        "FOO_SECRET=«s3cr3tvalue»",
        '"client_secret": "«q8Zr2LmX0pVt7Ys4»"',
        'let secret: &str = "«q8Zr2LmX0pVt7Ys4»";',
    ],
    "assigned-token": [
        "export X_TOKEN=«abc123def456»",
        "X_TOKEN='«abcdefghij»'",
        "//registry.example/:_authToken=«0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f»",
        "https://x.example/z?access_token=«q8Zr2LmX0pVt7Ys4zz»&b=1",
        "x-auth-token: «q8Zr2LmX0pVt7Ys4zz»",
        "ENV API_TOKEN «abc123def456ghij»",
        '$env:FOO_TOKEN="«abc123def456»"',
        "cli --token «q8Zr2LmX0pVt7Ys4aa» x",
    ],
    "assigned-key": [
        '"api_key": "«q8Zr2LmX0pVt7Ys4»"',
        'const apiKey = "«q8Zr2LmX0pVt7Ys4»";',
        "{'X-Api-Key': '«q8Zr2LmX0pVt7Ys4»'}",
        'os.environ["API_KEY"] = "«q8Zr2LmX0pVt7Ys4»"',
        "aws_secret_access_key = «wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY»",
        "SECRET_KEY_BASE=«" + HEX[:64] + "»",
        "HEROKU_API_KEY=«0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f»",
        "AccountKey=«" + MIXED[:86] + "==»;EndpointSuffix=core.windows.net",
    ],
    "private": [
        "the rest «<private>is nobody's</private>» business",
        "«<PRIVATE>one <private>two</private> three</Private >» four",
        "begin «<private>and it never ends " + JWT + "»",
    ],
}

LOOK_ALIKES = """
password: str
password: str = "default"
def login(user, password=None, token: str | None = None):
token = get_token()
password = request.form["password"]
password: user.password1,
password=hash2(x)
password: z.string().min(8)
secret_key = secrets.token_hex(32)
const apiKey = process.env.KEY
apiKey: process.env.OPENAI_API_KEY,
api_key=os.environ["KEY"]
API_KEY=your-key-here
API_KEY=${API_KEY}
API_KEY=$API_KEY
API_KEY=<token>
API_KEY = "API_KEY"
TOKEN=$(gh auth token)
DB_PASSWORD=changeme
DB_PASSWORD=xxx
DB_PASSWORD=********
DB_PASSWORD=
DB_PASSWORD=/run/secrets/db1
DB_PASSWORD_FILE=/run/secrets/db1
MAX_TOKENS=4096
FAIL_TO_PASS=test_login2
max_tokens: 4096, "input_tokens": 12345678
"next_page_token": "CAUQAA1b2c3d4e5f6g7h8"
primary_key=True
key="item-1234567890abcdef"
"key": "0a1b2c3d4e5f6a7b8c9d0a1b2c3d4e5f6a7b8c9d"
cache_key = "0a1b2c3d4e5f6a7b8c9d"
public_key: "0a1b2c3d4e5f6a7b8c9d0a1b2c3d4e5f6a7b8c9d"
password=password
if token == "abc123def456ghi789": pass
token: uint256 value
secret: [u8; 32]
tests pass: 123abc
the token is base64-encoded
"integrity": "sha512-q8Zr2LmX0pVt7Ys4q8Zr2LmX0pVt7Ys4q8Zr2LmX0pVt7Ys4q8Zr2LmX0pVt7Ys4q8Zr2LmX0pVt7Ys4AAAA=="
id 550e8400-e29b-41d4-a716-446655440000, "token": "550e8400-e29b-41d4-a716-446655440000"
commit 0a1b2c3d4e5f6a7b8c9d0a1b2c3d4e5f6a7b8c9d
toolu_01A2b3C4d5E6f7G8h9J0k1L2 call_A1b2C3d4E5f6G7h8A1b2C3d4 req_011CSHoEeqs5C35K2UUqR7Fy
/home/ann/work/shop__worktrees/fix-login-2/node_modules/.pnpm/@types+node@20.11.5/node_modules/@types/node/index.d.ts
https://user@host.example/path
https://localhost:8080/@scope/pkg
npm i https://registry.npmjs.org:443/@types/node
postgres://user:password@localhost/db
postgres://postgres:postgres@localhost/db
postgres://${USER}:${PASS}@host/db
http://{user}:{password}@{host}
git@github.com:owner/name.git
Authorization: Bearer <token>
Authorization: Bearer $TOKEN
f"Bearer {token}"
"Bearer tokens are used here", bearer authentication-mechanism, Basic authentication, basic understanding
if "-----BEGIN RSA PRIVATE KEY-----" in text:
-----BEGIN CERTIFICATE-----
ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
sk-your-api-key-here-please-now
task-management-system-for-all-users2024
sk-learn-something-really-long-name-here
npm_config_registry_and_other_very_long_names_1
hf_hub_download_with_a_very_long_name_2
key-value-store-implementation-2024-long
/home/REDACTED/x/token=REDACTED PASSWORD=REDACTED [REDACTED]
"token_type": "bearer12345678901"
secretName: my-secret-name-01
tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
const TOKEN_KEY = "auth_token_v1"
localStorage.getItem("token1")
--token <TOKEN> --password-stdin --token-limit 4000
auth_key=self.key1
data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk
std::map<Token,int> token1
Password: String!
#define TOKEN_A 1
x = token >= 12345abcde
#include <private/keys.h>
ssh-keygen -f <private key> -y
""".strip().splitlines()


def marked(rule_id: str) -> str:
    return f"[REDACTED:{rule_id}]"


AROUND = ["{}", "see {} there", '"{}"', "a\\n{}\\nb", "\x1b[32m{}\x1b[0m", "x?y={}&z=1", "ü{}ü", "{}\n{}"]


@pytest.mark.parametrize(
    ("rule_id", "secret"), [(rule, secret) for rule, all_of in TOKENS.items() for secret in all_of]
)
def test_a_token_is_cut_whole_wherever_it_stands(rule_id: str, secret: str) -> None:
    for around in AROUND:
        assert redact(around.replace("{}", secret)) == around.replace("{}", marked(rule_id))


@pytest.mark.parametrize(
    ("rule_id", "planted"), [(rule, text) for rule, all_of in IN_CONTEXT.items() for text in all_of]
)
def test_a_secret_known_by_what_stands_before_it_is_cut_and_nothing_else(rule_id: str, planted: str) -> None:
    before, _, rest = planted.partition("«")
    secret, _, after = rest.partition("»")
    assert redact(before + secret + after) == before + marked(rule_id) + after
    assert count(before + secret + after) == {rule_id: 1}
    assert list(hits(before + secret + after)) == [(rule_id, secret)]


def test_every_rule_has_its_planted_secret() -> None:
    assert set(TOKENS) | set(IN_CONTEXT) == RULE_IDS


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_look_alikes_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_an_env_dump_loses_its_secrets_and_keeps_its_lines() -> None:
    dump = f"PATH=/usr/bin:/bin\nHOME=/home/ann\nOPENAI_API_KEY=sk-{MIXED[:48]}\nDB_PASSWORD={WORD}\nLANG=C.UTF-8\n"
    assert redact(dump) == (
        "PATH=/usr/bin:/bin\nHOME=/home/ann\nOPENAI_API_KEY=[REDACTED:openai-key]\n"
        "DB_PASSWORD=[REDACTED:assigned-password]\nLANG=C.UTF-8\n"
    )


def test_text_behind_a_truncated_private_key_stays() -> None:
    text = pem("PRIVATE KEY", end=False) + "\n\nand then the agent went on to other things"
    assert redact(text) == "[REDACTED:private-key]\n\nand then the agent went on to other things"


def test_a_letter_whose_small_form_is_longer_moves_no_cut() -> None:
    assert redact("İİİ DB_PASSWORD=hunter2 İ") == "İİİ DB_PASSWORD=[REDACTED:assigned-password] İ"


PIECES = [
    *(secrets[0] for secrets in TOKENS.values()),
    *(text.replace("«", "").replace("»", "") for texts in IN_CONTEXT.values() for text in texts[:2]),
    *(
        "<private>",
        "</private>",
        "[REDACTED:",
        "]",
        "[REDACTED:jwt]",
        "password=",
        "KEY=",
        '"',
        "\\n",
        " ",
        "\n",
        "=",
        ":",
        "@",
    ),
    *("\ud800", "İ", "-----BEGIN PRIVATE KEY-----", "://", "eyJ", "sk-", "token", "Bearer "),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=8).map("".join))
@example("PASSWORD=abc[REDACTED:jwt]def123")
@example("<private>a[REDACTED:private]b")
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once
    assert not count(once)


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_no_text_is_too_odd(text: str) -> None:
    redact(text)


HOSTILE = [
    "a",
    "-",
    "_",
    "sk-",
    "ghp_",
    "glpat-a",
    "eyJ",
    "eyJabcdefghijk.",
    "key=",
    "token: ",
    "password=",
    "PASSWORD=pass",
]
HOSTILE += [
    "://",
    "://a:b",
    "://:",
    "<private>",
    "authorization:",
    "bearer ",
    "curl -u ",
    "discord M.",
    "[REDACTED:a",
    "\\nghp_",
]
HOSTILE += [
    "-----BEGIN PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\n{PEM}\n",
    "1:AA",
    "1Q~",
    "?sig=",
    "İkey=",
    "login x ",
]
HOSTILE += [
    'PASSWORD="',
    "--api-key x",
    "DB_PASSWORD=a1b2c3\n",
    "[REDACTED:a]key=",
    "\ud800",
    "AKIA",
    "basic ab",
    "\x1b[1msk-",
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_repetition_takes_linear_time(unit: str) -> None:
    text = (unit * (100_000 // len(unit) + 1))[:100_000]
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 8  # it takes 0.01 to 0.5 s; whatever is quadratic takes minutes


def test_a_line_of_ten_megabytes_is_no_trouble() -> None:
    text = "x" * 5_000_000 + " DB_PASSWORD=hunter2 " + "y" * 5_000_000
    assert redact(text) == text.replace("hunter2", "[REDACTED:assigned-password]")


def test_every_text_of_an_event_is_redacted() -> None:
    dirty = "DB_PASSWORD=hunter2"
    clean = "DB_PASSWORD=[REDACTED:assigned-password]"
    event = Event("e1", "call", dirty, 1, command=dirty, paths=("a.py", dirty), cwd=dirty, branch=dirty, tool="Bash")
    redacted = redact_event(event)
    assert redacted == Event(
        "e1", "call", clean, 1, command=clean, paths=("a.py", clean), cwd=clean, branch=clean, tool="Bash"
    )


def test_a_thread_loses_the_credentials_of_its_remote() -> None:
    thread = Thread("codex", "s", "s", title="token hunt", remote="https://ann:hunter2@git.example/a/b.git")
    assert redact_thread(thread).remote == "https://ann:[REDACTED:url-password]@git.example/a/b.git"


def test_what_holds_no_secret_is_the_same_object() -> None:
    event = Event("e1", "prompt", "fix the login page", 1, paths=("a.py",))
    thread = Thread("codex", "s", "s", title="login page")
    assert redact_event(event) is event
    assert redact_thread(thread) is thread
