"""Secrets are cut before anything is kept. Text in, the same text with marks in place of secrets out; no input or output."""

from lmm_mcp.redaction.cut import REDACTION_VERSION, RULE_IDS, count, hits, redact

__all__ = ["REDACTION_VERSION", "RULE_IDS", "count", "hits", "redact"]
