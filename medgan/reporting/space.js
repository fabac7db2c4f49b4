"use strict";
// 3D view of the scan and its regions with NiiVue, loaded on request.

function nifti({shape, affine, spacing, layers}, voxels, name) {
  // NIfTI-1: a header of 348 bytes, four of no extension, then the voxels.
  const layer = layers[name], file = new ArrayBuffer(352 + voxels[name].byteLength), header = new DataView(file);
  const put = {short: (at, n) => header.setInt16(at, n, true), float: (at, n) => header.setFloat32(at, n, true)};
  header.setInt32(0, 348, true);
  [3, ...shape, 1, 1, 1, 1].forEach((n, at) => put.short(40 + 2 * at, n));
  put.short(70, layer.bits === 16 ? 512 : 2);
  put.short(72, layer.bits);
  [1, ...spacing, 0, 0, 0, 0].forEach((n, at) => put.float(76 + 4 * at, n));
  put.float(108, 352);
  put.float(112, layer.step);
  put.float(116, layer.low);
  header.setUint8(123, 2); // mm
  put.short(254, 1); // s-form code: scanner
  affine.slice(0, 3).flat().forEach((n, at) => put.float(280 + 4 * at, n));
  [0x6e, 0x2b, 0x31, 0].forEach((n, at) => header.setUint8(344 + at, n));
  new Uint8Array(file, 352).set(new Uint8Array(voxels[name].buffer));
  return file;
}

function script(source) {
  return new Promise((done, failed) => {
    const tag = document.createElement("script");
    tag.src = source;
    tag.onload = done;
    tag.onerror = () => failed(new Error(`${source} is missing: keep the folder report/ together`));
    document.head.append(tag);
  });
}

function spaceColours(heatColours) {
  // Only regions are shown in 3D; their lowest value must be visible on black.
  const table = {I: [], R: [], G: [], B: [], A: []};
  for (const n of [0, 1, 51, 102, 153, 204, 255]) {
    const at = 3 * (85 + Math.round(n * 2 / 3));
    table.I.push(n);
    ["R", "G", "B"].forEach((name, part) => table[name].push(heatColours[at + part]));
    table.A.push(n && 128 + n / 2);
  }
  return table;
}

async function openSpace({given, voxels, heatColours, element}) {
  // Resolves to functions that set the cross-hair (mm) and the opacity of the map.
  const canvas = element("space");
  if (!document.createElement("canvas").getContext("webgl2")) {
    throw new Error("this browser has no WebGL 2; the planes above show the same data");
  }
  await script(given.niivue);
  element("space-frame").hidden = false;
  const viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1], show3Dcrosshair: true, crosshairWidth: 0.5, isOrientCube: true, dragAndDropEnabled: false,
    logLevel: "error", loadingText: "",
  });
  await viewer.attachToCanvas(canvas);
  const [from, to] = given.window;
  const add = async (name, colormap, low, high) => {
    const volume = await niivue.NVImage.loadFromUrl({url: nifti(given, voxels, name), name: `${name}.nii`, colormap});
    [volume.cal_min, volume.cal_max] = [low, high]; // at loading, NiiVue would replace them by its own
    viewer.addVolume(volume);
  };
  viewer.addColormap("medgan", spaceColours(heatColours));
  await add("scan", "gray", from + 0.1 * (to - from), to);
  await add("heat", "medgan", given.level, given.top);
  viewer.setSliceType(viewer.sliceTypeRender);
  viewer.setClipPlaneColor([0, 0, 0, 0]);
  const glass = () => viewer.setGradientOpacity(element("glass").checked ? 0.6 : 0);
  element("glass").addEventListener("change", glass);
  await glass();
  let azimuth = 110, elevation = 15;
  const turn = (a, e) => {
    azimuth = (azimuth + a + 360) % 360;
    elevation = Math.max(-90, Math.min(90, elevation + e));
    viewer.setRenderAzimuthElevation(azimuth, elevation);
  };
  turn(0, 0);
  for (const button of document.querySelectorAll("button[data-turn]")) {
    button.addEventListener("click", () => turn(...button.dataset.turn.split(",").map(Number)));
  }
  viewer.setScale(1.3);
  const cut = () => {
    const share = Number(element("cut").value) / 100; // 2 is far outside: nothing is clipped
    viewer.setClipPlane([share ? 0.5 - share : 2, 270, 0]);
  };
  element("cut").addEventListener("input", cut);
  element("space-tools").hidden = false;
  window.medganSpace = viewer;
  return {
    point: (mm) => {
      viewer.scene.crosshairPos = viewer.mm2frac(mm);
      viewer.drawScene();
    },
    opacity: (share) => viewer.setOpacity(1, share),
  };
}
