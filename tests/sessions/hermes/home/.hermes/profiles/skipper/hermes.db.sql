BEGIN;
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, role TEXT NOT NULL, content TEXT, tool_call_id TEXT,
    tool_calls TEXT, tool_name TEXT, timestamp REAL NOT NULL, token_count INTEGER, finish_reason TEXT
);
INSERT INTO messages (session_id, role, content, timestamp) VALUES
    ('01OLDHARBOUR', 'user', 'which rope holds the barge?', 1772650000.5),
    ('01OLDHARBOUR', 'assistant', 'The blue one.', 1772650001.5);
COMMIT;
