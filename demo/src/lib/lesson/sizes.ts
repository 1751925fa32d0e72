/** Sizes that lessons share: apart from their work, so that a page knows them without the library. */

/** Response tokens at most: the longest stories of the world are shorter. */
export const RESPONSE_LENGTH = 32;
/** Prompts that a policy answers in turn. */
export const TRAIN_PROMPTS = 4096;
