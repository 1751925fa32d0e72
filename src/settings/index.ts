/** Settings records: what an option is, and everything that follows from one. */
export { expectation, schemaOf } from "./check.ts";
export { didYouMean, nearest } from "./nearest.ts";
export {
  dialectIn,
  type Input,
  inCode,
  inFile,
  onCommandLine,
  type Resolved,
  type Settings,
  type Source,
  settingNamed,
  settings,
  spelled,
} from "./resolve.ts";
export {
  byDialect,
  camelCase,
  defaultWords,
  derived,
  group,
  type Kind,
  Later,
  nullable,
  type Setting,
  snakeCase,
  type Table,
  type Values,
} from "./setting.ts";
