"""Tokens that say by their first characters what they are: the table of prefixes, and rules with a literal gate.

The shapes (prefix, alphabet, length) follow the published rule set of gitleaks (github.com/gitleaks/gitleaks,
config/gitleaks.toml, MIT licence) and the providers' own documentation, written anew for Python's `re`.

Speed decides the form. Nearly every token has its prefix end in `_`, `-` or `.`, followed by a long run: a scan for such a
sign before such a run, with look-behinds for all prefixes at once, costs the same for a hundred prefixes as for ten. What
has no such sign is behind a gate. Every scan begins with one literal character, for then `re` looks for it as fast as
memory; an alternation or a set in its place is ten times slower.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from lmm_mcp.redaction.values import is_bearer, is_credential, is_placeholder

Span = tuple[int, int, str]
"""Characters [start, end) to be cut, and the id of the rule that says so."""

_HEX32, _HEX40, _HEX64 = (rf"[0-9a-fA-F]{{{n}}}(?!\w)" for n in (32, 40, 64))

_PREFIXED: tuple[tuple[str, str, str], ...] = (
    # rule id, prefixes (blank-separated), what follows the prefix; earlier rows win
    ("anthropic-key", "sk-", r"ant-[\w-]{20,}"),
    ("openrouter-key", "sk-", r"or-v1-[0-9a-f]{32,}"),
    ("openai-key", "sk-", r"(?:proj|svcacct|admin|None)-[\w-]{20,}|[A-Za-z0-9]{20,}"),
    ("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{36,}"),
    ("github-token", "github_pat_", r"\w{36,}"),
    (
        "gitlab-token",
        "glpat- gldt- glrt- glptt- glft- glimt- glagent- glsoat- gloas- glcbt- glffct-",
        r"[\w-]{20,}(?:\.[0-9a-z]{9}(?!\w))?",
    ),
    ("slack-token", "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs-", r"(?=[\w%-]{0,60}\d{3})[\w%-]{16,}"),
    ("slack-token", "xoxe.", r"xox[bp]-\d-[A-Za-z0-9]{40,}"),
    ("slack-token", "xapp-", r"\d-[A-Z0-9]+-\d+-[A-Za-z0-9]{16,}"),
    ("stripe-key", "sk_live_ sk_test_ sk_prod_ rk_live_ rk_test_ rk_prod_", r"[A-Za-z0-9]{16,}"),
    ("webhook-secret", "whsec_", r"[A-Za-z0-9+/]{24,}={0,2}"),
    ("google-oauth", "GOCSPX-", r"[\w-]{24,}"),
    ("google-oauth", "ya29.", r"[\w-]{30,}(?:\.[\w-]+)*"),
    ("npm-token", "npm_", r"[A-Za-z0-9]{36}(?!\w)"),
    ("pypi-token", "pypi-", r"AgE[\w-]{40,}"),
    ("huggingface-token", "hf_ api_org_", r"[A-Za-z0-9]{30,40}(?!\w)"),
    ("sendgrid-key", "SG.", r"[\w-]{16,32}\.[\w-]{16,64}"),
    ("mailgun-key", "key-", _HEX32),
    ("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", _HEX64),
    ("shopify-token", "shpat_ shpca_ shppa_ shpss_", _HEX32),
    ("square-token", "sq0atp- sq0csp-", r"[\w-]{22,60}"),
    ("linear-key", "lin_api_ lin_oauth_", r"[A-Za-z0-9]{32,}"),
    ("notion-token", "ntn_", r"\d{9,12}[A-Za-z0-9]{32,40}(?!\w)"),
    ("notion-token", "secret_", r"[A-Za-z0-9]{43}(?!\w)"),
    ("vercel-token", "vcp_ vci_ vca_ vcr_ vck_", r"[A-Za-z0-9]{24,}"),
    ("cloudflare-key", "v1.0-", r"[0-9a-f]{24}-[0-9a-f]{146}"),
    ("supabase-key", "sbp_", r"(?:v0_)?[0-9a-f]{40}(?!\w)"),
    ("supabase-key", "sb_secret_", r"[\w-]{20,}"),
    (
        "doppler-token",
        "dp.pt. dp.sa. dp.ct. dp.scim. dp.audit. dp.st. dp.st.dev. dp.st.stg. dp.st.prd. dp.st.prod.",
        r"[A-Za-z0-9]{40,44}(?!\w)",
    ),
    ("grafana-token", "glsa_", r"[A-Za-z0-9]{32}_[0-9a-fA-F]{8}(?!\w)"),
    ("grafana-token", "glc_", r"[A-Za-z0-9+/]{32,}={0,2}"),
    ("vault-token", "hvs. hvb. hvr.", r"[\w-]{24,}"),
    ("age-key", "AGE-", r"SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}(?!\w)"),
    ("1password-token", "ops_", r"eyJ[A-Za-z0-9+/]{100,}={0,2}"),
    ("groq-key", "gsk_", r"[A-Za-z0-9]{40,}"),
    ("perplexity-key", "pplx-", r"[A-Za-z0-9]{40,}"),
    ("xai-key", "xai-", r"[A-Za-z0-9]{60,}"),
    ("replicate-token", "r8_", r"[A-Za-z0-9]{37}(?!\w)"),
    ("nvidia-key", "nvapi-", r"[\w-]{50,}"),
    ("langsmith-key", "lsv2_pt_ lsv2_sk_", r"[0-9a-f]{32}_[0-9a-f]{10}(?!\w)"),
    ("tavily-key", "tvly-", r"(?:dev-|prod-)?[A-Za-z0-9]{20,}"),
    ("pinecone-key", "pcsk_", r"[\w-]{40,}"),
    ("figma-token", "figd_", r"[\w-]{36,}"),
    ("docker-token", "dckr_pat_ dckr_oat_", r"[\w-]{24,}"),
    ("tailscale-key", "tskey-", r"(?:auth|api|client|scim|webhook)-[A-Za-z0-9]+-[A-Za-z0-9]{16,}"),
    ("netlify-token", "nfp_", r"[A-Za-z0-9]{36,}"),
    ("resend-key", "re_", r"[A-Za-z0-9]{8}_[A-Za-z0-9]{24}(?!\w)"),
    ("fly-token", "fo1_ fm1r_ fm1a_ fm2_", r"[\w+/-]{40,}={0,2}"),
    ("posthog-key", "phx_ phs_", r"[A-Za-z0-9]{40,}"),
    ("newrelic-key", "NRAK-", r"[A-Z0-9]{27}(?!\w)"),
    ("planetscale-token", "pscale_tkn_ pscale_oauth_ pscale_pw_", r"[\w=.-]{32,}"),
    ("postman-key", "PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}(?!\w)"),
    ("pulumi-token", "pul-", _HEX40),
    ("rubygems-token", "rubygems_", r"[0-9a-f]{48}(?!\w)"),
    ("brevo-key", "xkeysib-", r"[0-9a-f]{64}-[A-Za-z0-9]{16}(?!\w)"),
    ("sentry-token", "sntryu_", _HEX64),
    ("sentry-token", "sntrys_", r"eyJ[\w+/=]{60,}"),
    ("shippo-token", "shippo_live_ shippo_test_", _HEX40),
    ("duffel-token", "duffel_live_ duffel_test_", r"[\w=-]{43}"),
    ("dynatrace-token", "dt0c01.", r"[A-Z0-9a-z]{24}\.[A-Z0-9a-z]{64}"),
    ("heroku-key", "HRKU-", r"[\w-]{36,}"),
    ("prefect-token", "pnu_ pnb_", r"[A-Za-z0-9]{36}(?!\w)"),
    ("readme-key", "rdme_", r"[a-z0-9]{70}"),
    ("circleci-token", "CCIPAT_ CCIPRJ_", r"[\w-]{40,}"),
    ("buildkite-token", "bkua_ bkaj_", r"[0-9a-f]{40}"),
)

_RULES_OF: dict[str, tuple[tuple[str, re.Pattern[str]], ...]] = {}
for _id, _prefixes, _tail in _PREFIXED:
    for _prefix in _prefixes.split():
        _RULES_OF[_prefix] = (*_RULES_OF.get(_prefix, ()), (_id, re.compile(_tail, re.ASCII)))
_LENGTHS = tuple(sorted({len(prefix) for prefix in _RULES_OF}, reverse=True))


def _anchor(sign: str) -> re.Pattern[str]:
    """Where a prefix that ends in `sign` has ended and a run long enough for any token begins."""
    prefixes = sorted((prefix for prefix in _RULES_OF if prefix.endswith(sign)), key=lambda p: (len(p), p))
    behinds = ("(?<=" + "|".join(map(re.escape, group)) + ")" for _, group in groupby(prefixes, key=len))
    return re.compile(rf"{re.escape(sign)}(?=[\w+/-]{{16}})(?:{'|'.join(behinds)})", re.ASCII)


_ANCHORS = tuple(map(_anchor, "_-."))
_GLUED = re.compile(r"\\[nrtbf]$|\\u00[0-9a-f]{2}$|%[0-9A-Fa-f]{2}$|\x1b\[[\d;]*m$")
"""What may touch a token from the left and yet not belong to it: escapes in nested JSON, in addresses, of a terminal."""


@dataclass(frozen=True, slots=True)
class Gated:
    """A rule that runs only where its gate opens."""

    gate: str
    """A pattern that begins with a literal; rules with the same gate stand together."""
    id: str
    pattern: re.Pattern[str]
    """Its group `secret`, else the whole match, is cut."""
    check: Callable[[str], bool] | None = None
    """Asked last, with the secret as it is written."""


Gates = tuple[tuple[re.Pattern[str], tuple[Gated, ...]], ...]


def gates(rules: tuple[Gated, ...]) -> Gates:
    """Put rules behind their gates, so that each gate is tried once."""
    return tuple((re.compile(gate), tuple(group)) for gate, group in groupby(rules, key=lambda rule: rule.gate))


_START = r"(?:(?<![\w-]{0})|(?<=\\[nrt]{0})|(?<=%[0-9a-fA-F]{{2}}{0})|(?<=\x1b\[\dm{0})|(?<=\x1b\[\d\dm{0})|(?<=\x1b\[\d;\d\dm{0}))"
_A = "A(?:KIA|SIA|Iza|TATT3)"
_GATED = (
    # The look-behind stands after the literal so that the search can still jump from literal to literal.
    Gated(_A, "aws-key-id", re.compile(r"AKIA[A-Z2-7]{16}(?![A-Za-z0-9+/=])")),
    Gated(_A, "aws-key-id", re.compile(r"ASIA[A-Z2-7]{16}(?![A-Za-z0-9+/=])")),
    Gated(_A, "google-key", re.compile(r"AIza[\w-]{35}(?![\w-])", re.ASCII)),
    Gated(_A, "atlassian-token", re.compile(r"ATATT3[\w=-]{60,}", re.ASCII)),
    Gated(
        "eyJ", "jwt", re.compile("eyJ" + _START.format("eyJ") + r"[\w-]{10,}+\.eyJ[\w-]{8,}+(?:\.[\w-]*+)?", re.ASCII)
    ),
    Gated("SK[0-9a-f]{32}", "twilio-key", re.compile(r"SK[0-9a-f]{32}(?!\w)", re.ASCII)),
    Gated("dapi[0-9a-f]{32}", "databricks-token", re.compile(r"dapi[0-9a-f]{32}(?:-\d)?(?!\w)", re.ASCII)),
    Gated(r"v(?<=\.atlasv)1\.", "terraform-token", re.compile(r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70}", re.ASCII)),
    Gated(":AA", "telegram-token", re.compile(r"(?<!\d)\d{8,10}:AA[\w-]{33}(?![\w-])", re.ASCII)),
    Gated("~(?<=Q~)", "azure-secret", re.compile(r"[\w~.-]{3}\dQ~[\w~.-]{31,}", re.ASCII)),
)
_ADDRESSES = (
    # Applied at every `://`, not searched for.
    Gated(
        "://",
        "url-password",
        re.compile(
            r"""://(?P<user>[^\s:/@"'`<>\\]{0,100}):(?!(?P=user)@)(?P<secret>(?![/\\])[^\s/"'`<>\\]{1,200})@(?=[\w\[$%{.-])"""
        ),
        is_credential,
    ),
    Gated("://", "url-token", re.compile(r"://(?P<secret>[A-Za-z0-9]{32,200})@(?=[\w.-])", re.ASCII), is_bearer),
    Gated("://", "webhook-url", re.compile(r"://hooks\.slack\.com/\w+/(?P<secret>[A-Za-z0-9+/]{30,60})")),
    Gated(
        "://",
        "webhook-url",
        re.compile(r"://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d{10,}/(?P<secret>[\w-]{40,})", re.ASCII),
    ),
    Gated(
        "://",
        "azure-signature",
        re.compile(r"://[^\s\"'<>]{1,600}?[?&]sig=(?P<secret>[A-Za-z0-9%+/]{40,}(?:%3[Dd]|=)?)"),
    ),
)
_GATES = gates(_GATED)
RULE_IDS = frozenset(row[0] for row in _PREFIXED) | {rule.id for rule in _GATED + _ADDRESSES} | {"private-key"}

_PEM_HEAD = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_LINES = re.compile(
    # Lines of base64 with what editors, diffs, quotes and nested JSON put between them; headers such as `DEK-Info: ...`.
    r"(?:(?:\\[nrt]|[^A-Za-z0-9+/=\\]|\\(?![nrt])){0,24}+(?:\d{1,5}[^A-Za-z0-9+/=]{1,4})?"
    r"(?:(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): ?[^\n\\]{1,80}|[A-Za-z0-9+/]{16,}+={0,2}))+"
    r"(?:(?:\\[nr]|\s){1,4}[A-Za-z0-9+/]{1,15}(?:={1,2}|(?=\s*\Z|\\)))?"
)
_PEM_MAX_chars = 20_000


def find(text: str) -> list[Span]:
    """Find every token in `text`."""
    spans: list[Span] = []
    for anchor in _ANCHORS:
        if anchor.search(text):
            spans += _prefixed(anchor, text)
    for gate, rules in _GATES:
        if gate.search(text):
            for rule in rules:
                spans += gated(rule, text, text)
    if "://" in text:
        spans += _in_addresses(text)
    if "-----BEGIN" in text:
        spans += _private_keys(text)
    return spans


def gated(rule: Gated, text: str, searched: str) -> Iterator[Span]:
    """Apply one rule, whose gate is open, to `searched`: `text` itself or its lower-cased twin."""
    for match in rule.pattern.finditer(searched):
        yield from _checked(rule, match, text)


def _checked(rule: Gated, match: re.Match[str], text: str) -> Iterator[Span]:
    start, end = match.span("secret" if "secret" in rule.pattern.groupindex else 0)
    if (rule.check is None or rule.check(text[start:end])) and starts_clean(text, start):
        yield start, end, rule.id


def _in_addresses(text: str) -> Iterator[Span]:
    at = text.find("://")
    while at >= 0:
        for rule in _ADDRESSES:
            if match := rule.pattern.match(text, at):
                yield from _checked(rule, match, text)
        at = text.find("://", at + 3)


def starts_clean(text: str, start: int) -> bool:
    """Whether a token may begin at `start`: nothing alphanumeric touches it, or an escape sequence does."""
    if start == 0 or not (text[start - 1].isascii() and text[start - 1].isalnum()):
        return True
    return bool(_GLUED.search(text[max(0, start - 12) : start]))


def _prefixed(anchor: re.Pattern[str], text: str) -> Iterator[Span]:
    done = 0
    for sign in anchor.finditer(text):
        end = sign.end()
        if end <= done:
            continue
        for length in _LENGTHS:
            start = end - length
            rules = _RULES_OF.get(text[start:end]) if start >= 0 else None
            if rules is None or not starts_clean(text, start):
                continue
            for rule_id, tail in rules:
                if (match := tail.match(text, end)) and not is_placeholder(match[0]):
                    # A refused run is not looked at again: no part of it can be better than the whole.
                    done = match.end()
                    if any(map(str.isdigit, match[0])) or match[0].lower() != match[0] != match[0].upper():
                        yield start, done, rule_id
                    break


def _private_keys(text: str) -> Iterator[Span]:
    """PEM and PGP private keys, whole or cut off; a header without a key (code that looks for one) stays."""
    for head in _PEM_HEAD.finditer(text):
        lines = _PEM_LINES.match(text, head.end(), head.end() + _PEM_MAX_chars)
        if lines is None:
            continue
        end = _PEM_END.search(text, lines.end(), head.end() + _PEM_MAX_chars)
        whole = end is not None and "-----BEGIN" not in text[lines.end() : end.start()]
        yield head.start(), end.end() if whole and end else lines.end(), "private-key"
