/** The run that a lesson's page shows: one made here, or a recorded one until the visitor starts one. */
import type { Granularity, Notice, Run, RunState, SavedRun } from "webrlhf/worker";
import type { Language } from "../language.ts";
import { training } from "../training.svelte.ts";
import { addressOf, damaged, type Group, groupAddressOf, type Hideable, readAddress } from "./address.ts";
import { memberOf, seedOf } from "./class-seed.ts";
import { endsOf } from "./ends.ts";
import { notebook } from "./notebook.svelte.ts";
import { resultOf } from "./result.ts";
import { eventOf, type Started, startedWith } from "./started.ts";
import { rememberedStudent, rememberStudent } from "./student.ts";
import type { Json, Lesson, LessonEvent, Recording, Size } from "./types.ts";

/** idle: nothing was started. The rest are the states of a run, see `webrlhf/worker`. */
export type Phase = "idle" | RunState;

/** Between two redraws while events pour in, in ms. */
const REDRAW = 250;
const CALM_REDRAW = 2000;

/** The last run of each lesson since the site was opened: to leave a lesson's page ends none. */
const left = new Map<string, { run: Run<LessonEvent>; started: Started }>();

export class LessonRun {
  readonly lesson: Lesson;
  readonly recordings: readonly Recording[];
  /** What the next start takes. */
  size: Size = $state("S");
  seed = $state(42);
  /** Fields of the lesson's input that the visitor changed. */
  asked: Record<string, Json> = $state.raw({});
  /** Fields that the visitor gave and that no link carries. */
  private given: Record<string, Json> = $state.raw({});
  /** The recorded run that is shown, or stands pale behind a live one. */
  recorded = $state(0);
  /** How many of the recorded run's events are shown. */
  upTo = $state(Infinity);
  phase: Phase = $state("idle");
  failure = $state("");
  /** Something to know while it goes on: the device was lost, nothing will survive a reload. */
  notice: Notice | null = $state.raw(null);
  /** The run of another page that has the worker while this one waits for it. */
  holder: Run | null = $state.raw(null);

  /** The class whose link led here; null: none. */
  group: Group | null = $state.raw(null);
  /** Who of the class this is; empty until it is said. */
  student = $state("");

  /** Events of the run made here. */
  private told: readonly LessonEvent[] = $state.raw([]);
  private pending: LessonEvent[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private run: Run<LessonEvent> | null = null;
  /** It waits because the tab is hidden. */
  private hidden = false;
  /** What the run made here was started with. */
  private started: Started | null = $state.raw(null);

  constructor(lesson: Lesson, recordings: readonly Recording[]) {
    this.lesson = lesson;
    this.recordings = recordings;
  }

  /** There is a run made here, going on or ended. */
  get live(): boolean {
    return this.phase !== "idle";
  }

  get busy(): boolean {
    return ["waiting", "running", "pausing", "cancelling"].includes(this.phase);
  }

  get over(): boolean {
    return ["idle", "done", "broken", "cancelled"].includes(this.phase);
  }

  /** The worker has what `snapshot` packs. */
  get savable(): boolean {
    return ["running", "pausing", "paused", "done"].includes(this.phase);
  }

  /** The events that figures and checks see. */
  get events(): readonly LessonEvent[] {
    return this.live ? this.told : this.recordedEvents.slice(0, this.upTo);
  }

  /** Those of the recorded run that stands behind a live one. */
  get ghost(): readonly LessonEvent[] {
    return this.live ? this.recordedEvents : [];
  }

  get recordedEvents(): readonly LessonEvent[] {
    return this.hides("recordings") ? [] : this.recordedRun;
  }

  private get recordedRun(): readonly LessonEvent[] {
    return this.recordings[this.recorded]?.events ?? [];
  }

  /** The class's link leaves this control out. Recorded runs come back where they are all there is. */
  hides(what: Hideable): boolean {
    return (this.group?.hide.includes(what) ?? false) && !(what === "recordings" && training.lacking);
  }

  /** A run can be started: in a class it is known whose it is. */
  get ready(): boolean {
    return !this.group || this.student !== "";
  }

  /** Says who of the class this is, and takes their seed; it throws with words where that is no name. */
  join(student: string): void {
    if (!this.group) return;
    this.seed = seedOf(this.group.class, student);
    this.student = student.trim();
    rememberStudent(this.group.class, this.student);
  }

  /** Somebody else sits here now. */
  leave(): void {
    this.student = "";
    if (this.group) rememberStudent(this.group.class, "");
  }

  /** What the next start takes. */
  get draft(): Json {
    return merged(this.lesson.input(this.size, this.seed), { ...this.asked, ...this.given });
  }

  /** What decides the run that is shown. */
  get input(): Json {
    if (this.live && this.started) return this.started.input;
    return (this.hides("recordings") ? null : this.recordings[this.recorded]?.input) ?? this.draft;
  }

  /** The run that is shown, as a recipe for the command line; null where the lesson has none. */
  get recipe(): string | null {
    return this.lesson.recipe?.(this.input) ?? null;
  }

  /** How much of the run is done, 0 to 1. */
  get progress(): number {
    if (this.phase === "done") return 1;
    const steps = this.told.filter((event) => endsOf(event) === "step").length;
    return Math.min(1, steps / (this.lesson.steps(this.started?.input ?? this.draft) || 1));
  }

  /** The hash that restores the run that is shown; labels are never in it. */
  get link(): string {
    const shown = this.live ? undefined : this.recordings[this.recorded];
    const recorded = shown && this.lesson.addressOf?.(shown.input);
    return addressOf(this.started?.address ?? recorded ?? { size: this.size, seed: this.seed, asked: this.asked });
  }

  /** The hash of the page: a class's link stays one, so that a reload finds the class again. */
  get place(): string {
    if (!this.group) return this.link;
    return groupAddressOf(this.started?.address ?? { size: this.size, asked: this.asked }, this.group);
  }

  /** What somebody gives away of a finished run: settings, numbers, predictions; null: none is finished. */
  get result(): ReturnType<typeof resultOf> | null {
    if (this.phase !== "done" || !this.started) return null;
    const locked = (id: string) => notebook.prediction(this.lesson.slug, id);
    const who = memberOf(this.group?.class, this.student, this.started.address.seed);
    return resultOf(this.lesson, this.started, this.told, locked, who);
  }

  /** Takes what a link asks for; it throws with words where the link is wrong. */
  open(hash: string, language: Language = "en"): void {
    const { size, seed, asked, group = null } = readAddress(hash, language);
    const words = damaged[language];
    const foreign = this.lesson.private?.find((name) => name in asked);
    if (foreign) throw new Error(words.link([words.private(foreign)]));
    try {
      this.lesson.parse(merged(this.lesson.input(size ?? this.size, seed ?? this.seed), asked));
    } catch (error) {
      throw new Error(words.link([words.input((error as Error).message)]), { cause: error });
    }
    if (size) this.size = size;
    if (seed !== undefined) this.seed = seed;
    this.asked = asked;
    this.group = group;
    this.student = "";
    const known = group && rememberedStudent(group.class);
    if (known) this.join(known);
  }

  /** Changes fields of what the next start takes. */
  ask(fields: Record<string, Json>): void {
    this.asked = { ...this.asked, ...fields };
  }

  /** Gives what stays in this browser, the lesson's `private` fields, in place of what was given before. */
  give(fields: Record<string, Json>): void {
    this.given = fields;
  }

  /** Starts, pauses or resumes, by phase. */
  go(): void {
    this.hidden = false;
    if (this.over) this.start("run");
    else if (this.phase === "running") this.run?.pause();
    else this.run?.resume();
  }

  step(granularity: Granularity = "step"): void {
    if (this.over) this.start("step", granularity);
    else this.run?.step(granularity);
  }

  /** Drops the run; the recorded one is shown again. */
  async reset(): Promise<void> {
    const { run } = this;
    this.clear();
    await run?.cancel();
  }

  /** Shows the run again that was shown when the visitor left this lesson for another page. */
  comeBack(): void {
    const found = left.get(this.lesson.slug);
    if (!found || this.live || !["", addressOf(found.started.address)].includes(location.hash)) return;
    this.take(found.started, found.run);
  }

  /** Runs of this lesson that a reload or a closed tab left; another tab has those that are `held`. */
  async unfinished(): Promise<SavedRun[]> {
    const all = await training.session.unfinished().catch(() => []); // where nothing can be kept, nothing was
    return all.filter(({ program }) => program === this.lesson.slug);
  }

  /** Goes on with one of them. */
  goOn(saved: SavedRun): void {
    void this.reset();
    this.take(startedWith(this.lesson, saved), training.session.goOn<LessonEvent>(saved.id));
  }

  /** The run as a file that `restore` takes, and whose `files/run/` is what the command line leaves. */
  async snapshot(language: Language): Promise<Blob> {
    const { run, started } = this;
    if (!run || !started) throw new Error("There is no run to save: start one.");
    this.flush();
    const { sharedFiles } = await import("./share.ts");
    const adapter = training.device?.name ?? null;
    return run.snapshot(sharedFiles(this.lesson, started, this.told, { adapter, language }));
  }

  /**
   * Goes on with a run out of a file, in place of the one that is shown.
   * @throws OtherLesson where it is of another lesson, or Error with words where the file is none, or is damaged
   */
  async restore(file: Blob): Promise<void> {
    // One that is at work keeps the worker until the file is known to be good.
    const restored = await training.session.restore<LessonEvent>(file);
    let started: Started;
    try {
      started = startedWith(this.lesson, restored.spec ?? { program: "", input: null });
    } catch (error) {
      await restored.cancel();
      throw error;
    }
    void this.reset();
    this.take(started, restored);
  }

  /** A hidden tab does not train: nobody watches, and the machine may be on battery. */
  hide(hidden: boolean): void {
    if (hidden && this.phase === "running") {
      this.hidden = true;
      this.run?.pause();
    } else if (!hidden && this.hidden) {
      this.hidden = false;
      this.run?.resume();
    }
  }

  /** Asks one of the lesson's queries in the worker. */
  query<T>(name: string, argument: Json, signal?: AbortSignal): Promise<T> {
    const question = { slug: this.lesson.slug, name, argument };
    // Of the run that is shown the worker has the files, from its first event until it is dropped.
    const run = this.told.length > 0 && this.phase !== "broken" ? this.run : null;
    const asked =
      run?.inspect("lesson", question, { signal }) ?? training.session.query("lesson", question, { signal });
    return asked as Promise<T>;
  }

  private start(mode: "run" | "step", granularity?: Granularity): void {
    if (!this.ready) return;
    this.clear();
    const input = this.draft;
    const address = { size: this.size, seed: this.seed, asked: this.asked };
    const spec = { program: this.lesson.slug, input: { input, address } };
    this.follow(training.session.run(spec, { mode, granularity }), { address, input });
  }

  /** Follows a run that was started before. */
  private take(started: Started, run: Run<LessonEvent>): void {
    const { size, seed, asked } = started.address;
    Object.assign(this, { size, seed, asked });
    this.follow(run, started);
  }

  private follow(run: Run<LessonEvent>, started: Started): void {
    this.run = run;
    this.started = started;
    this.phase = run.state;
    left.set(this.lesson.slug, { run, started });
    run.subscribe(() => {
      if (this.run !== run) return;
      this.phase = run.state;
      this.notice = run.notices.at(-1) ?? null;
      this.lookForHolder(run);
    });
    this.hear(run).catch((error: Error) => {
      if (this.run !== run) return;
      this.failure = error.message;
      this.phase = "broken";
      if (run.state === "broken") return;
      this.run = null; // it is no run of this lesson
      void run.cancel();
    });
  }

  /** Who has the worker while this run waits; as that may change, it is heard, too. */
  private lookForHolder(run: Run<LessonEvent>): void {
    const waits = run.state === "waiting" || (run.state === "paused" && run.events.length === 0);
    const first = this.run === run && waits ? training.session.runs.find(({ state }) => state !== "cancelling") : null;
    const holder = first && first.id !== run.id ? first : null;
    if (holder === this.holder) return;
    this.unhear();
    this.holder = holder;
    this.unhear = holder?.subscribe(() => this.lookForHolder(run)) ?? (() => {});
  }

  private unhear = () => {};

  private async hear(run: Run<LessonEvent>): Promise<void> {
    for await (const { event } of run) {
      if (this.run !== run) return;
      this.pending.push(eventOf(event)); // of a file they may be anything
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      this.timer ??= setTimeout(() => this.flush(), calm ? CALM_REDRAW : REDRAW);
    }
    if (this.run !== run) return;
    this.flush();
    this.phase = run.state;
  }

  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.pending.length > 0) this.told = [...this.told, ...this.pending];
    this.pending = [];
  }

  private clear(): void {
    if (left.get(this.lesson.slug)?.run === this.run) left.delete(this.lesson.slug);
    this.run = null;
    this.hidden = false;
    this.pending = [];
    this.flush();
    this.told = [];
    this.phase = "idle";
    this.failure = "";
    this.notice = null;
    this.started = null;
    this.unhear();
    this.holder = null;
  }
}

const merged = (input: Json, asked: Record<string, Json>): Json =>
  Object.keys(asked).length > 0 ? { ...(input as Record<string, Json>), ...asked } : input;
