// Pictures of environments: a grid of some, and one that is large.

import { Curve } from "/curve.js";
import { count, figure, many, NONE } from "/format.js";
import { Stream } from "/stream.js";
import { write } from "/table.js";

const $ = (id) => document.getElementById(id);
const TILE_WIDTH = 240;
const LARGE_WIDTH = 960;
const SETTLE_MS = 300; // sessions that come one after the other ask for pictures once

let came = 0; // pictures, by which one that takes longer to read is known to be the older one: servers' clocks are set back

/** Draw what came on a canvas; nothing is loaded for it, so the policy needs no exception. */
async function draw(canvas, told) {
  const number = (came += 1);
  const bytes = Uint8Array.from(atob(told.image), (letter) => letter.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: told.type }));
  if (canvas.shown > number) {
    picture.close();
    return;
  }
  canvas.shown = number;
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
}

/** "0-3,8" -> [0, 1, 2, 3, 8], of those below `envs`; null: that cannot be read. */
export function range(text, envs) {
  const found = new Set();
  for (const part of text.split(",").map((one) => one.trim()).filter(Boolean)) {
    const match = /^(\d{1,6})(?:\s*-\s*(\d{1,6}))?$/.exec(part);
    if (!match) return null;
    const last = Math.min(Number(match[2] ?? match[1]), envs - 1);
    for (let env = Number(match[1]); env <= last && found.size < 64; env += 1) found.add(env);
  }
  return [...found];
}

export class Frames {
  constructor() {
    this.tiles = new Map(); // by key
    this.sessions = [];
    this.offset = 0;
    this.stream = new Stream({ tile: (told) => this.told(told) });
    this.large = new Large();
    $("frames-form").addEventListener("submit", (event) => event.preventDefault());
    $("frames-session").addEventListener("change", () => this.begin());
    $("frames-many").addEventListener("change", () => this.begin());
    $("frames-which").addEventListener("change", () => this.choose());
    $("frames-back").addEventListener("click", () => this.turn(-1));
    $("frames-on").addEventListener("click", () => this.turn(1));
  }

  get many() {
    return Number($("frames-many").value);
  }

  begin() {
    this.offset = 0;
    $("frames-which").value = "";
    this.choose();
  }

  turn(by) {
    $("frames-which").value = "";
    this.offset = Math.max(0, this.offset + by * this.many);
    this.choose();
  }

  /** Show environments of one session. */
  only(key) {
    $("frames-session").value = key;
    this.begin();
    $("frames").scrollIntoView({ block: "start" });
    $("frames-session").focus();
  }

  /** Take over which servers and sessions there are. */
  see(servers, sessions) {
    const up = servers.filter((one) => one.up);
    const mute = up.filter((one) => !one.frames);
    const makes = new Set(up.filter((one) => one.frames).map((one) => one.key));
    // In the order in which they were first seen: the pictures stay where they are, whatever the table is ordered by.
    const there = new Map(sessions.filter((one) => makes.has(one.key.split(".")[0])).map((one) => [one.key, one]));
    const kept = this.sessions.filter((one) => there.has(one.key)).map((one) => one.key);
    this.sessions = [...new Set([...kept, ...there.keys()])].map((key) => there.get(key));
    const why = $("frames-why");
    why.hidden = !mute.length;
    if (mute.length) {
      const whose = servers.length > 1 ? mute.map((one) => one.label).join(", ") : "This server";
      write(why, `${whose} makes no pictures: rendering may change a simulator, so its owner has to allow it (remote-gym serve --frames).`);
    }
    $("frames").classList.toggle("mute", up.length > 0 && !makes.size);
    this.list();
    if (this.settling) return;
    this.settling = setTimeout(() => {
      this.settling = 0;
      this.choose();
    }, this.tiles.size ? SETTLE_MS : 0);
  }

  list() {
    const select = $("frames-session");
    const options = new Map([...select.options].map((one) => [one.value, one]));
    for (const one of this.sessions) {
      const option = options.get(one.key) ?? new Option("", one.key);
      write(option, `${one.principal} ${one.id.slice(0, 8)}`);
      if (!options.delete(one.key)) select.append(option);
    }
    options.delete("");
    for (const [key, option] of options) if (key !== select.value) option.remove();
  }

  /** The environments to show, as {key, label}. */
  wanted() {
    const chosen = this.sessions.filter((one) => !$("frames-session").value || one.key === $("frames-session").value);
    const every = [];
    const typed = $("frames-which").value;
    const envs = Math.max(0, ...chosen.map((one) => one.envs));
    const which = typed ? range(typed, envs) : null;
    $("frames-which").setAttribute("aria-invalid", String(Boolean(typed) && which === null));
    // One of each session, then the next of each: a few tell of all.
    const last = which ? envs : this.offset + this.many;
    for (let env = 0; env < envs && (which || every.length < last); env += 1) {
      if (which && !which.includes(env)) continue;
      for (const one of chosen) if (env < one.envs) every.push({ key: `${one.key}.${env}`, session: one, env });
    }
    const total = chosen.reduce((sum, one) => sum + one.envs, 0);
    if (!which && this.offset >= total) this.offset = 0;
    const shown = which ? every.slice(0, Math.min(64, this.many)) : every.slice(this.offset, last);
    $("frames-back").disabled = Boolean(which) || this.offset === 0;
    $("frames-on").disabled = Boolean(which) || this.offset + this.many >= total;
    write($("frames-count"), total ? `${shown.length} of ${many(total, "environment")}` : "");
    return shown;
  }

  choose() {
    const wanted = this.wanted();
    const shown = new Set(wanted.map((one) => one.session));
    const people = new Set([...shown].map((one) => one.principal));
    const whose = (one) => (people.size > 1 ? one.principal : shown.size > 1 ? one.id.slice(0, 4) : "");
    const before = this.tiles;
    this.tiles = new Map();
    for (const one of wanted) {
      const tile = before.get(one.key) ?? this.make(one);
      before.delete(one.key);
      this.tiles.set(one.key, tile);
      write(tile.whose, whose(one.session));
    }
    for (const gone of before.values()) gone.item.remove();
    if (before.size || $("tiles").children.length !== this.tiles.size) $("tiles").append(...[...this.tiles.values()].map((one) => one.item));
    const query = wanted.map((one) => `tile=${one.key}`).join("&");
    this.stream.to(query ? `/tiles?width=${TILE_WIDTH}&${query}` : null);
  }

  make({ key, session, env }) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "tile";
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    canvas.setAttribute("role", "img");
    const why = document.createElement("span");
    why.className = "why";
    const caption = document.createElement("span");
    caption.className = "caption";
    const name = document.createElement("b");
    const gained = document.createElement("span");
    const who = document.createElement("span");
    const whose = document.createElement("span");
    write(name, String(env));
    const label = `Environment ${env} of ${session.principal}, session ${session.id.slice(0, 8)}`;
    canvas.setAttribute("aria-label", label);
    button.title = label;
    write(why, "waiting for a picture");
    who.className = "whose";
    who.append(name, " ", whose);
    caption.append(who, gained);
    button.append(canvas, why, caption);
    button.addEventListener("click", () => this.large.show(key, label));
    item.append(button);
    return { item, button, canvas, why, whose, gained };
  }

  told(told) {
    const tile = this.tiles.get(told.tile);
    if (!tile) return;
    write(tile.gained, told.length === undefined ? "" : `${figure(told.return)} in ${count(told.length)}`);
    if (told.missing) {
      write(tile.why, told.missing);
      tile.button.classList.remove("seen");
      return;
    }
    draw(tile.canvas, told).then(
      () => tile.button.classList.add("seen"),
      () => {
        write(tile.why, "this picture cannot be read");
        tile.button.classList.remove("seen");
      },
    );
  }
}

/** One environment, large, with its episode so far. */
class Large {
  constructor() {
    this.dialog = $("large");
    this.curve = new Curve($("large-curve"), 120, { width: 240, height: 40 });
    this.stream = new Stream({ tile: (told) => this.told(told) });
    this.length = 0;
    this.dialog.addEventListener("close", () => this.stream.to(null));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
  }

  show(key, label) {
    write($("large-title"), label);
    const canvas = $("large-picture");
    canvas.setAttribute("aria-label", label);
    canvas.width = canvas.height = 1;
    canvas.shown = came += 1; // nothing of the one before
    for (const id of ["large-return", "large-length"]) write($(id), NONE);
    this.curve.clear();
    this.length = 0;
    this.why("waiting for a picture");
    this.dialog.showModal();
    this.stream.to(`/tiles?width=${LARGE_WIDTH}&period=0.2&tile=${key}`);
  }

  why(text) {
    write($("large-why"), text);
    $("large-why").hidden = !text;
  }

  told(told) {
    if (told.length !== undefined) {
      if (told.length < this.length) this.curve.clear();
      this.length = told.length;
      this.curve.add([told.return]);
      write($("large-return"), figure(told.return));
      write($("large-length"), count(told.length));
    }
    this.why(told.missing ?? "");
    if (!told.missing) draw($("large-picture"), told).catch(() => this.why("this picture cannot be read"));
  }
}
