"use strict";
// Three planes through one point of a scan on canvases; NiiVue adds a 3D view on request.
// Voxels are ordered as in a NIfTI file: X to the patient's right first, then Y to the front, Z to the head.
(async () => {
  const PLANES = [
    {name: "sagittal", fixed: 0, across: 1, up: 2, marks: ["A", "P", "S", "I"], axis: ["R", "L"]},
    {name: "coronal", fixed: 1, across: 0, up: 2, marks: ["R", "L", "S", "I"], axis: ["A", "P"]},
    {name: "axial", fixed: 2, across: 0, up: 1, marks: ["R", "L", "A", "P"], axis: ["S", "I"]},
  ];
  const element = (id) => document.getElementById(id);
  const given = JSON.parse(element("volumes").textContent);
  const {shape, affine, spacing, layers, level, top} = given;
  const strides = [1, shape[0], shape[0] * shape[1]];
  const status = element("position");

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  async function unpack(layer) {
    const stream = new Blob([bytes(layer.data)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const buffer = await new Response(stream).arrayBuffer();
    return layer.bits === 16 ? new Uint16Array(buffer) : new Uint8Array(buffer);
  }

  if (typeof DecompressionStream === "undefined") {
    status.textContent = "This browser is too old to show the planes: they need DecompressionStream " +
      "(Chrome or Edge 80, Firefox 113, Safari 16.4).";
    return;
  }
  const voxels = {};
  for (const name of Object.keys(layers)) voxels[name] = await unpack(layers[name]);
  const heatColours = bytes(given.heat_colours), differenceColours = bytes(given.difference_colours);
  const value = (name, index) => layers[name].low + voxels[name][index] * layers[name].step;

  const state = {
    at: [...given.peak], show: "scan", opacity: 0.6, heatStart: given.heat_start, window: [...given.first_window],
    outlines: true, cross: true, lesion: true,
  };

  // Colour tables ---------------------------------------------------------------

  let greys, heat, differences;

  function tabulate() {
    const {low, step, bits} = layers.scan, [from, to] = state.window;
    const size = bits === 16 ? 65536 : 256;
    greys = new Uint8ClampedArray(size);
    for (let n = 0; n < size; n++) greys[n] = 255 * (low + n * step - from) / Math.max(to - from, 1e-9);
    heat = new Uint8ClampedArray(4 * 256);
    for (let n = 0; n < 256; n++) {
      const share = (n * layers.heat.step - state.heatStart) / Math.max(top - state.heatStart, 1e-9);
      if (share <= 0) continue;
      const colour = 3 * Math.round(255 * Math.min(share, 1));
      heat.set([...heatColours.subarray(colour, colour + 3), 255 * (0.35 + 0.65 * Math.min(share, 1))], 4 * n);
    }
    const reach = Math.max(1, (to - from) / 2 / step);
    differences = (steps) => 3 * Math.round(127.5 + 127.5 * Math.max(-1, Math.min(1, steps / reach)));
  }

  // One plane ---------------------------------------------------------------------------------

  function indices(plane) {
    // Voxels of the slice in radiological orientation, row by row from the upper left corner.
    const wide = shape[plane.across], tall = shape[plane.up], found = new Int32Array(wide * tall);
    const start = state.at[plane.fixed] * strides[plane.fixed];
    for (let row = 0, n = 0; row < tall; row++) {
      for (let column = 0; column < wide; column++, n++) {
        found[n] = start + (wide - 1 - column) * strides[plane.across] + (tall - 1 - row) * strides[plane.up];
      }
    }
    return found;
  }

  function pixels(plane, paint) {
    const wide = shape[plane.across], tall = shape[plane.up];
    plane.scratch ??= document.createElement("canvas");
    plane.scratch.width = wide;
    plane.scratch.height = tall;
    const image = new ImageData(wide, tall);
    paint(image.data);
    plane.scratch.getContext("2d").putImageData(image, 0, 0);
    return plane.scratch;
  }

  function paintBase(data, slice, show) {
    const {scan, recon} = voxels, shown = show === "recon" ? recon : scan;
    slice.forEach((index, n) => {
      if (show === "difference") {
        const colour = differences(scan[index] - recon[index]);
        data.set(differenceColours.subarray(colour, colour + 3), 4 * n);
      } else {
        data.fill(greys[shown[index]], 4 * n, 4 * n + 3);
      }
      data[4 * n + 3] = 255;
    });
  }

  function paintHeat(data, slice) {
    slice.forEach((index, n) => data.set(heat.subarray(4 * voxels.heat[index], 4 * voxels.heat[index] + 4), 4 * n));
  }

  function outline(context, plane, slice, map, colour, chosen) {
    const wide = shape[plane.across], tall = shape[plane.up];
    const x = plane.canvas.width / wide, y = plane.canvas.height / tall;
    const label = (column, row) =>
      column < 0 || row < 0 || column >= wide || row >= tall ? 0 : map[slice[row * wide + column]];
    for (const thick of [false, true]) {
      context.beginPath();
      for (let row = 0; row < tall; row++) {
        for (let column = 0; column < wide; column++) {
          const here = label(column, row);
          if (!here || (here === chosen) !== thick) continue;
          const edge = (dc, dr, ax, ay, bx, by) => {
            if (label(column + dc, row + dr) === here) return;
            context.moveTo((column + ax) * x, (row + ay) * y);
            context.lineTo((column + bx) * x, (row + by) * y);
          };
          edge(-1, 0, 0, 0, 0, 1);
          edge(1, 0, 1, 0, 1, 1);
          edge(0, -1, 0, 0, 1, 0);
          edge(0, 1, 0, 1, 1, 1);
        }
      }
      const width = thick ? 2.5 : 1.2; // a dark rim keeps light lines visible on bright tissue
      for (const [ink, more] of [["rgb(0 0 0 / .5)", 1.6], [colour, 0]]) {
        context.strokeStyle = ink;
        context.lineWidth = (width + more) * devicePixelRatio;
        context.stroke();
      }
    }
  }

  function write(context, text, x, y, align = "center") {
    context.textAlign = align;
    context.lineWidth = 3 * devicePixelRatio;
    context.strokeStyle = "#000";
    context.fillStyle = "#fff";
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }

  function annotate(context, plane) {
    const {width, height} = plane.canvas, unit = devicePixelRatio;
    context.font = `600 ${13 * unit}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    write(context, plane.marks[0], 10 * unit, height / 2);
    write(context, plane.marks[1], width - 10 * unit, height / 2);
    write(context, plane.marks[2], width / 2, 11 * unit);
    write(context, plane.marks[3], width / 2, height - 11 * unit);
    const perMm = width / (shape[plane.across] * spacing[plane.across]);
    const narrowest = Math.min(shape[0] * spacing[0], shape[1] * spacing[1]);
    const mm = [100, 50, 20, 10, 5, 2].find((length) => length < narrowest / 2.5) ?? 1;
    context.font = `${11 * unit}px system-ui, sans-serif`;
    for (const [colour, rim] of [["#000", unit], ["#fff", 0]]) {
      context.fillStyle = colour;
      context.fillRect(8 * unit - rim, height - 9 * unit - rim, mm * perMm + 2 * rim, 2 * unit + 2 * rim);
    }
    write(context, `${mm} mm`, 8 * unit, height - 18 * unit, "left");
  }

  function cross(context, plane) {
    const {width, height} = plane.canvas;
    const x = (shape[plane.across] - 0.5 - state.at[plane.across]) * width / shape[plane.across];
    const y = (shape[plane.up] - 0.5 - state.at[plane.up]) * height / shape[plane.up];
    const gap = 9 * devicePixelRatio;
    context.beginPath();
    for (const [a, b, c, d] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
      context.moveTo(a, b);
      context.lineTo(c, d);
    }
    context.strokeStyle = "rgb(90 200 255 / .8)";
    context.lineWidth = devicePixelRatio;
    context.stroke();
  }

  function draw(plane) {
    const {canvas} = plane, box = canvas.getBoundingClientRect();
    canvas.width = Math.max(1, Math.round(box.width * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(box.height * devicePixelRatio));
    const context = canvas.getContext("2d"), slice = indices(plane);
    context.imageSmoothingQuality = "high";
    context.drawImage(pixels(plane, (data) => paintBase(data, slice, plane.show ?? state.show)), 0, 0, canvas.width, canvas.height);
    context.globalAlpha = state.opacity;
    if (state.opacity > 0 && !plane.show) {
      context.drawImage(pixels(plane, (data) => paintHeat(data, slice)), 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
    if (state.outlines) outline(context, plane, slice, voxels.regions, "#7df9ff", voxels.regions[index()]);
    if (state.lesion && voxels.lesion) outline(context, plane, slice, voxels.lesion, "#90ee90", 0);
    if (state.cross && !plane.show) cross(context, plane);
    annotate(context, plane);
  }

  // Position ------------------------------------------------------------------------------

  const index = () => state.at.reduce((sum, n, axis) => sum + n * strides[axis], 0);
  const world = () => affine.slice(0, 3).map((row) => row[0] * state.at[0] + row[1] * state.at[1] + row[2] * state.at[2] + row[3]);
  const side = (mm, [positive, negative]) => `${mm < 0 ? negative : positive} ${Math.abs(mm).toFixed(0)} mm`;

  function describe() {
    const here = index(), mm = world(), region = voxels.regions[here];
    const hot = value("heat", here), most = 255 * layers.heat.step;
    const unit = Math.abs(layers.scan.step) < 0.1 ? 3 : 0;
    PLANES.forEach((plane) => {
      const text = `${plane.name}, ${side(mm[plane.fixed], plane.axis)}`;
      plane.slider.value = state.at[plane.fixed];
      plane.slider.setAttribute("aria-valuetext", text);
      plane.caption.textContent = text;
      plane.canvas.setAttribute("aria-label", `${text}. Arrow keys move the cross-hair, page up and down change the slice.`);
    });
    status.textContent = `${side(mm[0], ["R", "L"])}, ${side(mm[1], ["A", "P"])}, ${side(mm[2], ["S", "I"])}: ` +
      `scan ${value("scan", here).toFixed(unit)}${given.unit}, healthy counterpart ${value("recon", here).toFixed(unit)}${given.unit}, ` +
      `map ${hot >= most ? "at least " : ""}${hot.toFixed(1)}${region ? `, in region ${region}` : ""}`;
    for (const button of document.querySelectorAll("button[data-region]")) {
      const current = Number(button.dataset.region) === region;
      button.setAttribute("aria-pressed", String(current));
      button.closest("tr").classList.toggle("here", current);
    }
  }

  let waiting = false, space = null;

  function refresh() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      [...PLANES, ...COMPARED].forEach(draw);
      describe();
      space?.point(world());
    });
  }

  function move(axis, to) {
    state.at[axis] = Math.max(0, Math.min(shape[axis] - 1, Math.round(to)));
    refresh();
  }

  const COMPARED = ["scan", "recon", "difference"].map((show) => (
    {...PLANES[given.compare], show, canvas: element(`compare-${show}`)}
  ));

  // Pointer, keys, controls -------------------------------------------------------------------

  function follow(plane, event) {
    const box = plane.canvas.getBoundingClientRect();
    move(plane.across, shape[plane.across] - 0.5 - (event.clientX - box.left) / box.width * shape[plane.across]);
    move(plane.up, shape[plane.up] - 0.5 - (event.clientY - box.top) / box.height * shape[plane.up]);
  }

  function key(plane, event) {
    const steps = {
      ArrowLeft: [plane.across, 1], ArrowRight: [plane.across, -1], ArrowUp: [plane.up, 1], ArrowDown: [plane.up, -1],
      PageUp: [plane.fixed, 1], PageDown: [plane.fixed, -1],
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [axis, step] = steps[event.key];
    move(axis, state.at[axis] + step);
  }

  PLANES.forEach((plane) => {
    plane.canvas = element(plane.name);
    plane.slider = element(`${plane.name}-slice`);
    plane.caption = element(`${plane.name}-caption`);
    plane.slider.max = shape[plane.fixed] - 1;
    plane.slider.addEventListener("input", () => move(plane.fixed, Number(plane.slider.value)));
    plane.canvas.addEventListener("pointerdown", (event) => {
      plane.canvas.setPointerCapture(event.pointerId);
      follow(plane, event);
    });
    plane.canvas.addEventListener("pointermove", (event) => event.buttons & 1 && follow(plane, event));
    plane.canvas.addEventListener("keydown", (event) => key(plane, event));
    plane.canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== plane.canvas) return; // elsewhere the wheel scrolls the page
      event.preventDefault();
      move(plane.fixed, state.at[plane.fixed] - Math.sign(event.deltaY));
    }, {passive: false});
  });

  function control(id, event, change) {
    element(id)?.addEventListener(event, (happened) => {
      change(happened.target);
      tabulate();
      colourBar();
      refresh();
    });
  }

  for (const name of ["scan", "recon", "difference"]) control(`show-${name}`, "change", () => (state.show = name));
  for (const name of ["outlines", "cross", "lesion"]) control(name, "change", (box) => (state[name] = box.checked));
  control("opacity", "input", (slider) => {
    state.opacity = slider.value / 100;
    space?.opacity(state.opacity);
  });
  control("heat-start", "input", (slider) => (state.heatStart = Number(slider.value)));

  function windowed() {
    const centre = (state.window[0] + state.window[1]) / 2, width = state.window[1] - state.window[0];
    element("centre").value = Number(centre.toPrecision(4));
    element("width").value = Number(width.toPrecision(4));
    nameWindow(centre, width);
  }

  function nameWindow(centre, width) {
    const preset = element("preset"), whole = state.window.every((edge, n) => edge === given.window[n]);
    preset.value = whole ? "" : `${centre},${width}`;
    if (preset.selectedIndex < 0) preset.value = "own";
  }

  for (const id of ["centre", "width"]) {
    control(id, "input", () => {
      const centre = Number(element("centre").value), width = Math.max(Number(element("width").value), 1e-6);
      state.window = [centre - width / 2, centre + width / 2];
      nameWindow(centre, width);
    });
  }
  control("preset", "change", (select) => {
    const [centre, width] = select.value ? select.value.split(",").map(Number) : [];
    state.window = select.value ? [centre - width / 2, centre + width / 2] : [...given.window];
    windowed();
  });

  for (const button of document.querySelectorAll("button[data-region]")) {
    button.addEventListener("click", () => {
      state.at = [...given.region_peaks[Number(button.dataset.region) - 1]];
      refresh();
      element("planes").scrollIntoView({block: "nearest"});
    });
  }

  function colourBar() {
    const heatBar = element("heat-bar"), differenceBar = element("difference-bar");
    const fill = (canvas, colour) => {
      const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, 1);
      for (let x = 0; x < canvas.width; x++) image.data.set([...colour(x / (canvas.width - 1)), 255], 4 * x);
      for (let y = 0; y < canvas.height; y++) context.putImageData(image, 0, y);
    };
    const from = (table, share) => table.subarray(3 * Math.round(255 * share), 3 * Math.round(255 * share) + 3);
    fill(heatBar, (share) => from(heatColours, share));
    fill(differenceBar, (share) => from(differenceColours, share));
    element("heat-low").textContent = state.heatStart.toFixed(1);
    const mark = (level - state.heatStart) / Math.max(top - state.heatStart, 1e-9);
    element("level").style.left = `${100 * Math.max(0, Math.min(1, mark))}%`;
    const reach = (state.window[1] - state.window[0]) / 2;
    element("difference-low").textContent = `−${reach.toPrecision(3)}`;
    element("difference-high").textContent = `+${reach.toPrecision(3)}`;
  }

  element("open-space").addEventListener("click", async (event) => {
    const say = element("space-status");
    event.target.disabled = true;
    say.textContent = "Loading …";
    try {
      space = await openSpace({given, voxels, heatColours, element});
      space.opacity(state.opacity);
      space.point(world());
      say.textContent = "Drag or use the buttons to rotate, the slider to clip.";
      event.target.hidden = true;
    } catch (error) {
      say.textContent = `No 3D view: ${error.message}.`;
    }
  });

  new ResizeObserver(refresh).observe(element("planes"));
  tabulate();
  windowed();
  colourBar();
  refresh();
  document.body.dataset.ready = "yes";
})();
