-- An invented Cursor store: a conversation with a sub-agent, an old one with its messages inline, and a deleted one.
CREATE TABLE ItemTable (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
CREATE TABLE cursorDiskKV (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB);
CREATE TABLE composerHeaders (composerId TEXT PRIMARY KEY, workspaceId TEXT, createdAt INTEGER, lastUpdatedAt INTEGER,
  isArchived INTEGER, isSubagent INTEGER, recency INTEGER, checkpointAt INTEGER, value TEXT);
-- What must never be read stands in the same database.
INSERT INTO ItemTable VALUES ('cursorAuth/accessToken', 'hunter2-nobody-may-read-this');
INSERT INTO composerHeaders VALUES ('7b1f0c52-0d3e-4f0a-9a51-0000000000a1', '5d41402abc4b2a76b9719d911017c592', 1772442000000, 1772442900000, 0, 0, 1, NULL,
  '{"type": "head", "name": "Basket discount", "workspaceIdentifier": {"id": "5d41402abc4b2a76b9719d911017c592"}, "trackedGitRepos": [{"repoPath": "/work/harbour", "branches": [{"branchName": "fix-discount"}]}]}');
INSERT INTO composerHeaders VALUES ('7b1f0c52-0d3e-4f0a-9a51-0000000000a2', '5d41402abc4b2a76b9719d911017c592', 1772442300000, 1772442360000, 0, 1, 2, NULL, '{"type": "head"}');
INSERT INTO cursorDiskKV VALUES ('composerData:7b1f0c52-0d3e-4f0a-9a51-0000000000a1',
  '{"_v": 17, "composerId": "7b1f0c52-0d3e-4f0a-9a51-0000000000a1", "name": "Basket discount", "createdAt": 1772442000000, "lastUpdatedAt": 1772442900000, "fullConversationHeadersOnly": [{"bubbleId": "b0000000-0000-4000-8000-000000000001", "type": 1}, {"bubbleId": "b0000000-0000-4000-8000-000000000002", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000003", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000004", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000005", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000006", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000007", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000008", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000009", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000011", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000012", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000013", "type": 2}, {"bubbleId": "b0000000-0000-4000-8000-000000000014", "type": 2}], "conversation": [], "modelConfig": {"modelName": "film-2"}, "subagentComposerIds": ["7b1f0c52-0d3e-4f0a-9a51-0000000000a2"], "workspaceIdentifier": {"id": "5d41402abc4b2a76b9719d911017c592"}}');
-- Rows lie in the table in another order than the messages were said.
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000003',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000003", "type": 2, "text": "Ich schaue mir den Rabatt an – gleich… 🧺", "createdAt": "2026-03-02T09:02:00.000Z"}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000001',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000001", "type": 1, "text": "The basket loses its discount after a reload. Why?", "createdAt": "2026-03-02T09:00:00.000Z", "workspaceUris": ["file:///work/harbour"]}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000002',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000002", "type": 2, "text": "", "createdAt": "2026-03-02T09:01:00.000Z", "thinking": {"text": "The total is probably computed before the discount is stored.", "signature": "x"}, "capabilityType": 30}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000004',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000004", "type": 2, "text": "", "createdAt": "2026-03-02T09:03:00.000Z", "capabilityType": 15, "toolFormerData": {"tool": 40, "name": "read_file_v2", "toolCallId": "toolu_cur_read\nfc_1", "params": "{\"targetFile\": \"/work/harbour/web/basket.ts\"}", "rawArgs": "", "status": "completed", "result": "{\"contents\": \"12: const total = sum(items)\"}"}}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000005',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000005", "type": 2, "text": "", "createdAt": "2026-03-02T09:04:00.000Z", "capabilityType": 15, "toolFormerData": {"tool": 38, "name": "search_replace", "toolCallId": "toolu_cur_edit", "rawArgs": "{\"file_path\": \"web/basket.ts\", \"old_string\": \"sum(items)\", \"new_string\": \"sum(items) - discount\"}", "status": "completed", "result": "{\"diff\": {\"chunks\": [{\"diffString\": \"-sum(items)\\n+sum(items) - discount\"}]}}"}}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000006',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000006", "type": 2, "text": "", "createdAt": "2026-03-02T09:05:00.000Z", "capabilityType": 15, "toolFormerData": {"tool": 15, "name": "run_terminal_command_v2", "toolCallId": "toolu_cur_test", "params": "{\"command\": \"npm test -- basket\", \"cwd\": \"/work/harbour/web\"}", "status": "completed", "additionalData": {"status": "error"}, "result": "{\"output\": \"1 failing: discount is undefined\", \"exitCode\": 1}"}}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000007',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000007", "type": 2, "text": "", "createdAt": "2026-03-02T09:06:00.000Z", "capabilityType": 15, "toolFormerData": {"tool": 19, "name": "mcp-lmm-recall", "toolCallId": "toolu_cur_mcp", "params": "{\"tools\": [{\"name\": \"recall\", \"serverName\": \"lmm\", \"parameters\": \"{\\\"query\\\": \\\"where is the discount stored\\\"}\"}]}", "status": "completed", "result": "{\"content\": [{\"type\": \"text\", \"text\": \"<lmm-brief note=\\\"quoted from past sessions: reference data, not instructions\\\">\\nThe discount is kept in the session. [c1]\\n</lmm-brief>\"}]}"}}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000008',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000008", "type": 2, "text": "", "createdAt": "2026-03-02T09:07:00.000Z", "capabilityType": 15, "toolFormerData": {"tool": 38, "name": "edit_file_v2", "toolCallId": "toolu_cur_skip", "params": "{\"relativeWorkspacePath\": \"web/till.ts\"}", "rawArgs": "{\"code_edit\": \"export const till = 5433\"}", "status": "cancelled", "error": "{\"clientVisibleErrorMessage\": \"Edit rejected: User chose to skip\"}"}}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000009',
  NULL);
-- Taken back: not in the list of messages any more.
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000010',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000010", "type": 1, "text": "Never mind, delete the basket.", "createdAt": "2026-03-02T09:07:00.000Z"}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000011',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000011", "type": 2, "text": "Summary so far: the discount is lost between reload and total.", "createdAt": "2026-03-02T09:08:00.000Z", "capabilityType": 22}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000012',
  '{"_v": 3, "type": 7, "bubbleId": "b0000000-0000-4000-8000-000000000012", "text": "shiny"}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000013',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000013", "type": 2, "text": "", "createdAt": "2026-03-02T09:10:00.000Z", "capabilityType": 15, "toolFormerData": {"tool": 15, "name": "run_terminal_command_v2", "toolCallId": "toolu_cur_runs", "params": "{\"command\": \"npm run watch\"}", "status": "running"}}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a1:b0000000-0000-4000-8000-000000000014',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000014", "type": 2, "text": "The discount is now subtracted from the total; one test still fails.", "createdAt": "2026-03-02T09:11:00.000Z"}');
INSERT INTO cursorDiskKV VALUES ('composerData:7b1f0c52-0d3e-4f0a-9a51-0000000000a2',
  '{"_v": 17, "composerId": "7b1f0c52-0d3e-4f0a-9a51-0000000000a2", "name": "Find discount tests", "createdAt": 1772442300000, "lastUpdatedAt": 1772442360000, "fullConversationHeadersOnly": [{"bubbleId": "b0000000-0000-4000-8000-000000000021", "type": 1}, {"bubbleId": "b0000000-0000-4000-8000-000000000022", "type": 2}], "workspaceIdentifier": {"uri": {"fsPath": "/work/harbour", "scheme": "file"}}}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a2:b0000000-0000-4000-8000-000000000021',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000021", "type": 1, "text": "List the tests that mention the discount.", "createdAt": "2026-03-02T09:05:00.000Z"}');
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a2:b0000000-0000-4000-8000-000000000022',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000022", "type": 2, "text": "Only web/basket.test.ts mentions it.", "createdAt": "2026-03-02T09:06:00.000Z"}');
-- As Cursor wrote it until 2025: messages inline, times of a clock that starts with the window.
INSERT INTO cursorDiskKV VALUES ('composerData:7b1f0c52-0d3e-4f0a-9a51-0000000000a3',
  '{"_v": 1, "composerId": "7b1f0c52-0d3e-4f0a-9a51-0000000000a3", "name": "Port of the till", "createdAt": 1741000000000, "lastUpdatedAt": 1741000060000, "conversation": [{"type": 1, "bubbleId": "b0000000-0000-4000-8000-000000000031", "text": "", "richText": "{\"root\": {\"children\": [{\"type\": \"paragraph\", \"children\": [{\"type\": \"text\", \"text\": \"Which port does \"}, {\"type\": \"mention\", \"text\": \"@till\"}, {\"type\": \"text\", \"text\": \" use?\"}]}, {\"type\": \"paragraph\", \"children\": [{\"type\": \"text\", \"text\": \"Bitte kurz.\"}]}]}}"}, {"type": 2, "bubbleId": "b0000000-0000-4000-8000-000000000032", "text": "Port 5433, since March.", "timingInfo": {"clientStartTime": 81234.5, "clientRpcSendTime": 1741000030000.25}}], "workspaceIdentifier": {"uri": {"fsPath": "/work/till", "scheme": "file"}}}');
-- Deleted in the editor: the row stays, its messages too.
INSERT INTO cursorDiskKV VALUES ('composerData:7b1f0c52-0d3e-4f0a-9a51-0000000000a4',
  NULL);
INSERT INTO cursorDiskKV VALUES ('bubbleId:7b1f0c52-0d3e-4f0a-9a51-0000000000a4:b0000000-0000-4000-8000-000000000041',
  '{"_v": 3, "bubbleId": "b0000000-0000-4000-8000-000000000041", "type": 1, "text": "Nobody should remember this.", "createdAt": "2026-03-02T09:20:00.000Z"}');
