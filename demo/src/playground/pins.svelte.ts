/** The pinned runs of this browser. */
import { browser } from "$app/environment";
import { MOST_PINS, NAME_LENGTH, type Pin, pinsOf } from "./pins.ts";

const place = "webrlhf/pins";

class Pins {
  all: readonly Pin[] = $state.raw([]);

  get full(): boolean {
    return this.all.length >= MOST_PINS;
  }

  /** Reads what was saved: once the page is alive, so that it is drawn first as it was built. */
  open(): void {
    if (browser) this.all = pinsOf(read());
  }

  add(pin: Pin): void {
    if (!this.full) this.keep([...this.all, pin]);
  }

  remove(pin: Pin): void {
    this.keep(this.all.filter((other) => other !== pin));
  }

  rename(pin: Pin, name: string): void {
    this.keep(this.all.map((other) => (other === pin ? { ...pin, name: name.trim().slice(0, NAME_LENGTH) } : other)));
  }

  private keep(all: readonly Pin[]): void {
    this.all = all;
    try {
      localStorage.setItem(place, JSON.stringify(all));
    } catch {
      // A browser that keeps nothing still shows them until the page is left.
    }
  }
}

function read(): string | null {
  try {
    return localStorage.getItem(place);
  } catch {
    return null;
  }
}

export const pins = new Pins();
