// The slice viewer: which picture to ask the server for, and nothing else.
"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  const stage = viewer.querySelector(".stage");
  const controls = viewer.querySelector(".controls");
  const told = viewer.querySelector(".as-of");
  const part = (name) => document.getElementById(`v-${name}`);
  const on = (name) => Boolean(part(name) && part(name).checked);
  const AHEAD = 3, MOST_KEPT = 120, WAIT_MS = 60;
  const kept = new Map(); // by address: pictures that were asked for, oldest first
  let usual = null, shown = "", timer = 0;

  const chosen = () => part("series").selectedOptions[0];
  const base = () => `/studies/${viewer.dataset.study}/series/${part("series").value}`;
  const slice = () => Number(part("slice").value);
  const plane = () => part("plane").value;
  let places = {}; // by plane: the slice that was looked at last

  function address(number) {
    const marks = { outline: on("outline"), heat: on("heat"), doubt: on("doubt") };
    const query = new URLSearchParams({ ...marks, opacity: part("opacity").value });
    const level = parseFloat(part("level").value), width = parseFloat(part("width").value);
    if (usual && Number.isFinite(level) && width > 0) {
      query.set("low", level - width / 2);
      query.set("high", level + width / 2);
    }
    if (usual && plane() !== usual.native) query.set("plane", plane());
    if (on("fuse") && chosen().dataset.modality === "PT") query.set("ct", viewer.dataset.ct);
    return `${base()}/slices/${number - 1}?${query}`;
  }

  function picture(number) {
    const url = address(number);
    let image = kept.get(url);
    if (!image) {
      image = new Image(640, 640);
      image.draggable = false;
      image.alt = `Slice ${number} of ${part("slice").max}, ${chosen().dataset.modality}, ${plane()}`;
      image.src = url;
      kept.set(url, image);
      if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value);
    }
    return [url, image];
  }

  async function show() {
    const number = slice(), last = Number(part("slice").max);
    const [url, image] = picture(number);
    shown = url;
    places[plane()] = number;
    // Across the acquired slices the whole series is read first.
    told.textContent = image.complete ? `Slice ${number} of ${last}` : `Slice ${number} of ${last} is being drawn`;
    try {
      await image.decode();
    } catch {
      kept.delete(url);
      if (shown === url) told.textContent = `Slice ${number} cannot be shown; the log-in may have ended`;
      return;
    }
    if (shown !== url) return;
    told.textContent = `Slice ${number} of ${last}`;
    stage.replaceChildren(image);
    for (let step = 1; step <= AHEAD; step += 1) {
      if (number + step <= last) picture(number + step);
      if (number - step >= 1) picture(number - step);
    }
  }

  // Of many changes at once the last one counts.
  function soon() {
    clearTimeout(timer);
    timer = setTimeout(show, WAIT_MS);
  }

  function move(steps) {
    part("slice").value = slice() + steps;
    show();
  }

  function tidy(value) {
    return Number(value.toPrecision(4));
  }

  function reset() {
    part("level").value = tidy((usual.low + usual.high) / 2);
    part("width").value = tidy(usual.high - usual.low);
  }

  async function begin(number) {
    const asked = base();
    const answer = await fetch(`${asked}/window`);
    const found = answer.ok ? await answer.json() : null;
    if (base() !== asked) return;
    if (!found) {
      told.textContent = "This series cannot be shown";
      return;
    }
    usual = found;
    places = { [usual.native]: number || Math.ceil(usual.count / 2) };
    part("plane").value = usual.native;
    reset();
    turn();
  }

  function turn() {
    const count = usual.planes[plane()];
    part("slice").max = count;
    part("slice").value = places[plane()] || Math.ceil(count / 2);
    show();
  }

  stage.addEventListener("keydown", (event) => {
    const last = Number(part("slice").max);
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -last, End: last };
    if (event.key in steps) {
      event.preventDefault();
      move(steps[event.key]);
    }
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    move(event.deltaY > 0 ? 1 : -1);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    if (!usual) return;
    const from = { x: event.clientX, y: event.clientY, level: Number(part("level").value), width: Number(part("width").value) };
    const reach = (usual.high - usual.low) / 300;
    const drag = (moved) => {
      part("width").value = tidy(Math.max(from.width + (moved.clientX - from.x) * reach, reach));
      part("level").value = tidy(from.level + (moved.clientY - from.y) * reach);
      soon();
    };
    stage.setPointerCapture(event.pointerId);
    stage.addEventListener("pointermove", drag);
    stage.addEventListener("pointerup", () => stage.removeEventListener("pointermove", drag), { once: true });
  });
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", (event) => {
    if (event.target !== part("series") && event.target !== part("plane")) soon();
  });
  part("plane").addEventListener("change", turn);
  part("series").addEventListener("change", () => begin(0));
  part("reset").addEventListener("click", () => {
    reset();
    show();
  });
  controls.hidden = false;
  begin(slice());
})();
