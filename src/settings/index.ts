/** Settings records: what an option is, and everything that follows from one. */
export { snakeCase } from "../runtime/names.ts";
export { expectation, schemaOf } from "./check.ts";
export { all, type Condition, effective, isSet, needs, where, without } from "./effect.ts";
export { didYouMean, nearest } from "./nearest.ts";
export {
  checkLive,
  dialectIn,
  type Foreign,
  type ForeignNames,
  inCode,
  inFile,
  live,
  liveValues,
  onCommandLine,
  type ResolvedSettings,
  type Settings,
  type SettingsCheck,
  type SettingsInput,
  type SettingsSource,
  settingNamed,
  settings,
  spelled,
  withoutEffect,
} from "./resolve.ts";
export {
  byDialect,
  DerivedDefault,
  defaultWords,
  derived,
  group,
  nullable,
  type Setting,
  type SettingDetails,
  type SettingGroup,
  type SettingKind,
  type SettingMaker,
  type SettingsTable,
  type SettingType,
  type SettingValues,
  withoutSecrets,
} from "./setting.ts";
