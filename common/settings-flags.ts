import { type Command, Option } from 'commander'
import { flagName, loadSettings, type SettingsOf, type SettingsTable, variableName } from './config.ts'

/** Gives a command `--config` and one flag for each setting, described with its default and its variable. */
export function addSettingsFlags(command: Command, table: SettingsTable, prefix: string): Command {
  command.option('--config <file>', `YAML file with settings; also ${prefix}_CONFIG`)
  for (const [name, setting] of Object.entries(table)) {
    const shown = setting.default === undefined ? 'must be set' : `default ${JSON.stringify(setting.default)}`
    const hint = setting.secret
      ? `${variableName(prefix, name)}, better than a flag: others see flags`
      : variableName(prefix, name)
    command.addOption(new Option(`--${flagName(name)} <value>`, `${setting.summary} (${shown}; ${hint})`))
  }
  return command
}

/**
 * The settings from flags over environment over file.
 * @param parsed commander's options of a command made with {@link addSettingsFlags}
 * @throws InvalidSettings
 */
export function settingsFromFlags<T extends SettingsTable>(
  table: T,
  prefix: string,
  parsed: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string | undefined>>,
): SettingsOf<T> {
  const given = (flag: string) => {
    const value = parsed[flag.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())]
    return typeof value === 'string' ? value : undefined
  }
  const flags = Object.fromEntries(Object.keys(table).map((name) => [name, given(flagName(name))]))
  const file = given('config') ?? environment[`${prefix}_CONFIG`]
  return loadSettings(table, { file, environment, prefix, flags })
}
