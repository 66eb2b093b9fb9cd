"""One file for each agent: where its sessions lie and what their records mean."""
