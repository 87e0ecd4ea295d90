"""OHIF as a reader uses it: by mouse and keyboard in a headless Chromium.

What the page draws on a canvas cannot be read from it, so its own objects are asked where a voxel
is on the screen and what the mask holds; nothing is ever set through them.
"""

import json
import shutil
import time
from contextlib import contextmanager, suppress

from playwright.sync_api import Error, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]
SIZE = {"width": 1600, "height": 1000}  # so that all rows of labels are on the screen
AXIAL, SAGITTAL, CORONAL = "mpr-axial", "mpr-sagittal", "mpr-coronal"
WAIT_MS = 180_000  # other work may have the processors

VOLUMES_LOADED = """() => {
  const volumes = window.cornerstone.cache.getVolumes().filter(v => v.loadStatus);
  return volumes.length > 0 && volumes.every(v => v.loadStatus.loaded);
}"""

# Where the center of a voxel is on the page, and how far it is from the plane that is shown.
PLACE = """([viewportId, ijk]) => {
  const viewport = window.cornerstone.getRenderingEngines()[0].getViewport(viewportId);
  const volume = window.cornerstone.cache.getVolume(viewport.getAllVolumeIds()[0]);
  const world = volume.imageData.indexToWorld(ijk);
  const [x, y] = viewport.worldToCanvas(world);
  const box = viewport.element.getBoundingClientRect();
  const {focalPoint, viewPlaneNormal} = viewport.getCamera();
  const away = [0, 1, 2].reduce((s, a) => s + (world[a] - focalPoint[a]) * viewPlaneNormal[a], 0);
  return {x: box.left + x, y: box.top + y, away_mm: away, center: [box.left + box.width / 2,
          box.top + box.height / 2], shape: Array.from(volume.dimensions)};
}"""

# The voxels of the mask by segment, as one index each: x + nx * (y + ny * z).
MASK = """() => {
  const mask = window.services.segmentationService.getLabelmapVolume('1');
  if (!mask) return null;
  const values = mask.voxelManager.getCompleteScalarDataArray();
  const found = {};
  values.forEach((value, i) => { if (value) (found[value] = found[value] || []).push(i); });
  return {shape: Array.from(mask.dimensions), found};
}"""

POINTS = """() => window.cornerstoneTools.annotation.state.getAnnotationManager()
  .getAllAnnotations().filter(a => a.metadata.toolName === 'ProbeMONAILabel').length"""


class Mask:
    """What the viewer shows: the voxels (i, j, k) of each of its segments."""

    def __init__(self, values):
        self.shape = tuple(values["shape"])
        nx, ny, _ = self.shape
        self.segments = {
            int(segment): {(i % nx, i // nx % ny, i // (nx * ny)) for i in flat}
            for segment, flat in values["found"].items()
        }

    @property
    def tumor(self):
        return self.segments.get(1, set())


class Ohif:
    """One page of the viewer."""

    def __init__(self, page, url, shots):
        self.page, self.url, self.shots = page, url, shots
        self.errors, self.refused, self.dialogs = [], [], []
        self._is_downward = {}
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", self._note)
        page.on("dialog", self._agree)

    def _note(self, response):
        if response.status >= 400 and response.url.startswith(self.url):
            self.refused.append((response.status, response.url.removeprefix(self.url)))

    def _agree(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.accept()

    def shot(self, name):
        self.page.screenshot(path=self.shots / f"{name}.png")

    def open_list(self):
        self.page.goto(f"{self.url}/ohif/")
        self.page.get_by_text("Study List").wait_for(timeout=WAIT_MS)
        with suppress(Error):  # a banner over the lower viewports, once in the life of a browser
            self.page.get_by_role("button", name="Confirm and Hide").click(timeout=5000)

    def patients(self, among):
        """Which of these the list shows."""
        return [name for name in among if self.page.get_by_text(name, exact=True).count()]

    def filter_patients(self, text):
        """Type into the second column of the list, which OHIF calls MRN."""
        self.page.locator("input[type='text']").nth(1).fill(text)
        self.page.wait_for_timeout(4000)  # it waits for more to be typed, then asks the PACS

    def open_study(self, study_uid):
        self.page.goto(f"{self.url}/ohif/monai-label?StudyInstanceUIDs={study_uid}")
        self.wait_until_loaded()

    def open_from_list(self, patient):
        self.page.get_by_text(patient, exact=True).first.click()
        self.page.get_by_role("button", name="MONAI Label").first.click()
        self.wait_until_loaded()

    def wait_until_loaded(self):
        self.page.locator("#monailabelServerURL").wait_for(timeout=WAIT_MS)
        self.until(VOLUMES_LOADED, "the image to be loaded")
        self.page.wait_for_timeout(500)

    def until(self, script, what, wanted=True):
        deadline = time.monotonic() + WAIT_MS / 1000
        while time.monotonic() < deadline:
            try:
                if bool(self.page.evaluate(script)) == wanted:
                    return
            except Error:  # the page has not come as far
                pass
            self.page.wait_for_timeout(200)
        raise TimeoutError(f"waited for {what}")

    def connect(self):
        self.page.locator("#monailabelServerURL").fill(f"{self.url}/")
        self.page.locator(".settingsTable button.actionButton").first.click()
        self.page.get_by_text("Options / Configurations").wait_for(timeout=WAIT_MS)
        self.until(MASK, "an empty mask")
        self.page.wait_for_timeout(1500)  # the panel colors its segments a second later

    def open_tab(self, name):
        self.page.locator("label.tab-label", has_text=name).click()
        self.page.wait_for_timeout(500)

    def run(self, kind):
        """Press Run of an open tab; return the response."""
        button = self.page.locator(f"button[title='Run {kind}']")
        with self.page.expect_response(lambda r: "/infer/" in r.url, timeout=WAIT_MS) as waited:
            button.click()
        waited.value.finished()
        self.page.wait_for_timeout(1500)
        return waited.value

    def mask(self):
        return Mask(self.page.evaluate(MASK))

    def points(self):
        return self.page.evaluate(POINTS)

    def choose_label(self, name):
        self.page.locator("tr.clickable-row", has_text=name).first.click()
        self.page.wait_for_timeout(300)

    def set_options(self, model, **values):
        """Fill in fields of a model in the form of options."""
        self.page.locator(".monaiLabelPanel a", has_text="Options / Configurations").click()
        form = self.page.locator(".optionsForm")
        form.locator("select[name=selectName]").select_option(model)
        for key, value in values.items():
            field = self.page.locator(f"#infer{model}{key}")
            field.set_checked(value) if isinstance(value, bool) else field.select_option(value)
        return form

    def confirm_options(self):
        self.page.get_by_role("button", name="Confirm").click()
        self.page.wait_for_timeout(500)

    def scroll_to(self, viewport, ijk):
        """Turn the wheel over a viewport until it shows the plane of a voxel."""
        for _ in range(60):
            place = self._place(viewport, ijk)
            steps = place["away_mm"] / self._step_mm(viewport, ijk)
            if abs(steps) <= 0.51:
                return place
            self.page.mouse.move(*place["center"])
            is_up = (steps > 0) == self._is_downward.get(viewport, True)
            for _ in range(max(1, int(0.7 * abs(steps)))):  # the rest by looking
                self.page.mouse.wheel(0, 100 if is_up else -100)
                self.page.wait_for_timeout(40)
            self.page.wait_for_timeout(400)
            if abs(self._place(viewport, ijk)["away_mm"]) > abs(place["away_mm"]):
                self._is_downward[viewport] = not self._is_downward.get(viewport, True)
        raise TimeoutError(f"{viewport} does not come to voxel {ijk}")

    def _step_mm(self, viewport, ijk):
        """The way to the next voxel across a viewport."""
        here = self._place(viewport, ijk)["away_mm"]
        steps = ([i + (axis == n) for n, i in enumerate(ijk)] for axis in range(3))
        return max(abs(self._place(viewport, one)["away_mm"] - here) for one in steps)

    def _place(self, viewport, ijk):
        return self.page.evaluate(PLACE, [viewport, list(ijk)])

    def click_voxel(self, viewport, ijk):
        """Put a point of the chosen label at a voxel, as a reader does with the mouse."""
        place = self.scroll_to(viewport, ijk)
        before = self.points()
        for _ in range(4):  # the first click in a viewport only makes it the active one
            self.page.mouse.move(place["x"], place["y"])
            self.page.wait_for_timeout(150)
            self.page.mouse.down()
            self.page.wait_for_timeout(100)
            self.page.mouse.up()
            self.page.wait_for_timeout(700)
            if self.points() == before + 1:
                return
        raise TimeoutError(f"no point was made at {ijk} of {viewport}")


def params_of(response):
    """What the page asked for: the JSON in the form that it sent."""
    body = response.request.post_data
    return json.loads(body.split("\r\n\r\n", 1)[1].split("\r\n--", 1)[0])


@contextmanager
def browser(url, shots):
    """A page of a new browser, which ends with the block."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = chromium.new_context(viewport=SIZE).new_page()
            page.set_default_timeout(60_000)
            yield Ohif(page, url, shots)
        finally:
            chromium.close()
