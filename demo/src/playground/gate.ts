/** Where a run waits when it is paused. The run passes the gate after everything it says. */
export class Gate {
  private mode: "run" | "step" | "pause";
  private open: (() => void) | null = null;

  constructor(mode: "run" | "step" = "run") {
    this.mode = mode;
  }

  /** True while the run stands at the gate. */
  get waiting(): boolean {
    return this.open !== null;
  }

  /** True when the run goes on until told otherwise. */
  get free(): boolean {
    return this.mode === "run";
  }

  pause(): void {
    this.mode = "pause";
  }

  resume(): void {
    this.go("run");
  }

  /** Lets the run go on to the end of its next step. */
  step(): void {
    this.go("step");
  }

  /**
   * Resolves when the run may go on.
   * @param stepDone a step has just ended
   * @param onWait called if the run has to wait
   */
  async pass(stepDone: boolean, onWait: () => void): Promise<void> {
    if (this.mode === "step" && stepDone) this.mode = "pause";
    if (this.mode !== "pause") return;
    const opened = new Promise<void>((resolve) => {
      this.open = resolve;
    });
    onWait();
    await opened;
  }

  private go(mode: "run" | "step"): void {
    this.mode = mode;
    this.open?.();
    this.open = null;
  }
}
