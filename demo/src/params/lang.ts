/** Languages other than English, which has no prefix in the address. */
export const match = (value: string): value is "zh" => value === "zh";
