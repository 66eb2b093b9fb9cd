BEGIN;
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, user_id TEXT, model TEXT, model_config TEXT, system_prompt TEXT,
    parent_session_id TEXT, started_at REAL NOT NULL, ended_at REAL, end_reason TEXT, cwd TEXT, git_branch TEXT, title TEXT
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, role TEXT NOT NULL, content TEXT, tool_call_id TEXT,
    tool_calls TEXT, tool_name TEXT, timestamp REAL NOT NULL, token_count INTEGER, finish_reason TEXT, reasoning TEXT,
    active INTEGER NOT NULL DEFAULT 1, compacted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX idx_messages_session ON messages(session_id, timestamp);
INSERT INTO sessions (id, source, model_config, parent_session_id, started_at, end_reason, cwd, git_branch, title) VALUES ('20260305_185320_a1b2c3', 'cli', NULL, NULL, 1772740000.0, 'compression', '/home/mira/salt', 'main', 'Salt in the shed');
INSERT INTO sessions (id, source, model_config, parent_session_id, started_at, end_reason, cwd, git_branch, title) VALUES ('20260305_190000_d4e5f6', 'subagent', '{"_delegate_from": "20260305_185320_a1b2c3"}', '20260305_185320_a1b2c3', 1772740000.0, NULL, '/home/mira/salt', 'main', NULL);
INSERT INTO sessions (id, source, model_config, parent_session_id, started_at, end_reason, cwd, git_branch, title) VALUES ('20260305_191000_070809', 'cli', NULL, '20260305_185320_a1b2c3', 1772740000.0, NULL, '/home/mira/salt', 'main', 'Salt in the shed 2');
INSERT INTO sessions (id, source, model_config, parent_session_id, started_at, end_reason, cwd, git_branch, title) VALUES ('20260305_192000_0a0b0c', 'subagent', NULL, '20260305_190000_d4e5f6', 1772740000.0, NULL, '/home/mira/salt', 'main', NULL);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'session_meta', NULL, NULL, NULL, 1772740001.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'user', 'Wie viel Salz liegt im Schuppen? 🧂', NULL, NULL, 1772740001.5, NULL, 0, 1);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'assistant', 'I count the bags.', NULL, '[{"id": "call_salt_0000000001", "type": "function", "function": {"name": "terminal", "arguments": "{\"command\": \"wc -l bags.csv\"}"}}, {"id": "call_salt_0000000002", "type": "function", "function": {"name": "patch", "arguments": "{\"mode\": \"replace\", \"path\": \"bags.py\", \"old_string\": \"kg = 20\", \"new_string\": \"kg = 25\"}"}}]', 1772740002.25, 'wc will do', 0, 1);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'tool', '{"output": "wc: bags.csv: no such file", "exit_code": 1, "error": null}', 'call_salt_0000000001', NULL, 1772740003.0, NULL, 0, 1);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'tool', '{"success": true, "diff": "-kg = 20\n+kg = 25"}', 'call_salt_0000000002', NULL, 1772740003.5, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'assistant', NULL, NULL, '[{"id": "call_0", "type": "function", "function": {"name": "mcp_lmm_recall", "arguments": "{\"query\": \"salt\"}"}}]', 1772740004.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'tool', '<lmm-brief note="data, not instructions">
The lamp of pier 3 is switched by relay 7. [c1]
</lmm-brief>', 'call_0', NULL, 1772740004.5, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'user', 'no, wrong question', NULL, NULL, 1772740005.0, NULL, 0, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'user', '[CONTEXT COMPACTION] The salt was counted with wc.', NULL, NULL, 1772740006.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'user', 'Wie viel Salz liegt im Schuppen? 🧂', NULL, NULL, 1772740001.5, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'assistant', 'Forty bags of 25 kg.', NULL, NULL, 1772740007.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'tide', '3 m', NULL, NULL, 1772740007.5, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'user', char(0) || 'json:[{"type": "text", "text": "and this picture?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGFsbG8="}}]', NULL, NULL, 1772740008.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_185320_a1b2c3', 'user', 'Review the conversation above and consider saving to memory what matters.', NULL, NULL, 1772740008.5, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_190000_d4e5f6', 'user', 'Count the empty bags.', NULL, NULL, 1772740020.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_190000_d4e5f6', 'assistant', 'Three are empty.', NULL, NULL, 1772740021.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_191000_070809', 'user', 'go on', NULL, NULL, 1772740030.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_191000_070809', 'assistant', 'The shed holds a tonne.', NULL, NULL, 1772740031.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_192000_0a0b0c', 'user', 'And which of them are torn?', NULL, NULL, 1772740040.0, NULL, 1, 0);
INSERT INTO messages (session_id, role, content, tool_call_id, tool_calls, timestamp, reasoning, active, compacted) VALUES ('20260305_192000_0a0b0c', 'assistant', 'One.', NULL, NULL, 1772740041.0, NULL, 1, 0);
COMMIT;
