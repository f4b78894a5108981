/**
 * Where secrets of a machine are: in memory (a tmpfs, as /run is on every machine with systemd), for root alone, gone with a
 * restart of the machine.
 */
export const SECRETS_DIRECTORY = '/run/orchestrator-secrets'
/** Started after each push: services that need secrets are wanted by it. */
export const SECRETS_TARGET = 'orchestrator-secrets.target'
