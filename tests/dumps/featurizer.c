/* What a board computes: the features of commands-cnn in float32, from a wav, in C99 with nothing but libm.

   featurizer [--symmetric] [--stage NAME] [--q28] IN.wav OUT.npy|OUT.csv|OUT.f32|OUT.i32|-
   featurizer [--symmetric] --all IN.wav DIR

   Stages: windowed, spectrum, filterbank, compressed (default). "-" writes raw float32 to stdout. --symmetric plants a
   fault: a Hann window divided into 511 parts, not 512. --q28 writes int32 with 28 bits of fraction. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE 16000
#define LENGTH 16032
#define FRAME 512
#define HOP 160
#define FRAMES (1 + (LENGTH - FRAME) / HOP)
#define BINS (FRAME / 2 + 1)
#define BANDS 50
static const double PI = 3.14159265358979323846;

static float samples[LENGTH], window[FRAME], twiddle[FRAME][2], bank[BANDS][BINS];
static float windowed[FRAMES * FRAME], spectrum[FRAMES * BINS], filterbank[FRAMES * BANDS], compressed[FRAMES * BANDS];

static void die(const char *what, const char *name) {
  fprintf(stderr, "featurizer: %s: %s\n", name, what);
  exit(3);
}

static uint32_t u32(const unsigned char *p) {
  return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A mono wav of 16-bit PCM or 32-bit float; what is beyond LENGTH is cut, what is missing stays zero. */
static void read_wav(const char *path) {
  unsigned char head[12], chunk[8], form[16] = {0};
  FILE *f = fopen(path, "rb");
  if (f == NULL) die("can't be opened", path);
  if (fread(head, 1, 12, f) != 12 || memcmp(head, "RIFF", 4) || memcmp(head + 8, "WAVE", 4)) die("is no wav", path);
  while (fread(chunk, 1, 8, f) == 8) {
    uint32_t size = u32(chunk + 4), i;
    if (memcmp(chunk, "fmt ", 4) == 0 && size >= 16) {
      if (fread(form, 1, 16, f) != 16) die("is cut short", path);
      fseek(f, (long)(size - 16 + size % 2), SEEK_CUR);
    } else if (memcmp(chunk, "data", 4) == 0) {
      int kind = form[0] | form[1] << 8, bytes = (form[14] | form[15] << 8) / 8;
      if (u32(form + 4) != RATE) die("isn't at 16000 Hz", path);
      if (!((kind == 1 && bytes == 2) || (kind == 3 && bytes == 4)) || form[2] != 1) die("is no mono pcm16 or float", path);
      for (i = 0; i < size / (uint32_t)bytes && i < LENGTH; i++) {
        unsigned char b[4];
        if (fread(b, 1, (size_t)bytes, f) != (size_t)bytes) die("is cut short", path);
        if (kind == 1) {
          samples[i] = (float)(int16_t)(b[0] | b[1] << 8) / 32768.0f;
        } else {
          uint32_t bits = u32(b);
          memcpy(&samples[i], &bits, 4);
        }
      }
      fclose(f);
      return;
    } else {
      fseek(f, (long)(size + size % 2), SEEK_CUR);
    }
  }
  die("has no samples", path);
}

static double mel(double hz) { return 2595.0 * log10(1.0 + hz / 700.0); }
static double hertz(double m) { return 700.0 * (pow(10.0, m / 2595.0) - 1.0); }

/* Constants, in double and rounded once: a board has them in its flash. */
static void tables(int symmetric) {
  double corner[BANDS + 2];
  int n, b, k;
  for (n = 0; n < FRAME; n++) {
    window[n] = (float)(0.5 - 0.5 * cos(2.0 * PI * n / (FRAME - (symmetric ? 1 : 0))));
    twiddle[n][0] = (float)cos(2.0 * PI * n / FRAME);
    twiddle[n][1] = (float)-sin(2.0 * PI * n / FRAME);
  }
  for (b = 0; b < BANDS + 2; b++) corner[b] = hertz(mel(RATE / 2.0) * b / (BANDS + 1));
  for (b = 0; b < BANDS; b++)
    for (k = 0; k < BINS; k++) {
      double f = (double)k * RATE / FRAME;
      double up = (f - corner[b]) / (corner[b + 1] - corner[b]), down = (corner[b + 2] - f) / (corner[b + 2] - corner[b + 1]);
      double height = up < down ? up : down;
      bank[b][k] = (float)(height > 0.0 ? height * 2.0 / (corner[b + 2] - corner[b]) : 0.0);
    }
}

/* Radix-2 FFT in place, float32, decimation in time. */
static void fft(float (*x)[2]) {
  int i, j = 0, size, k, start;
  for (i = 1; i < FRAME; i++) {
    int bit = FRAME >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      float re = x[i][0], im = x[i][1];
      x[i][0] = x[j][0], x[i][1] = x[j][1], x[j][0] = re, x[j][1] = im;
    }
  }
  for (size = 2; size <= FRAME; size *= 2)
    for (start = 0; start < FRAME; start += size)
      for (k = 0; k < size / 2; k++) {
        float *a = x[start + k], *b = x[start + k + size / 2], *w = twiddle[k * (FRAME / size)];
        float re = b[0] * w[0] - b[1] * w[1], im = b[0] * w[1] + b[1] * w[0];
        b[0] = a[0] - re, b[1] = a[1] - im, a[0] += re, a[1] += im;
      }
}

static void compute(void) {
  static float x[FRAME][2];
  int t, n, k, b;
  for (t = 0; t < FRAMES; t++) {
    for (n = 0; n < FRAME; n++) {
      x[n][0] = windowed[t * FRAME + n] = samples[t * HOP + n] * window[n];
      x[n][1] = 0.0f;
    }
    fft(x);
    for (k = 0; k < BINS; k++) spectrum[t * BINS + k] = x[k][0] * x[k][0] + x[k][1] * x[k][1];
    for (b = 0; b < BANDS; b++) {
      float sum = 0.0f;
      for (k = 0; k < BINS; k++) sum += bank[b][k] * spectrum[t * BINS + k];
      filterbank[t * BANDS + b] = sum;
      compressed[t * BANDS + b] = log10f(sum + 1e-6f);
    }
  }
}

static void write_array(const char *path, const float *x, int width, int q28) {
  int dash = strcmp(path, "-") == 0, t, i, count = FRAMES * width;
  const char *end = strrchr(path, '.');
  FILE *f = dash ? stdout : fopen(path, "wb");
  if (f == NULL) die("can't be written", path);
  if (end != NULL && strcmp(end, ".csv") == 0) {
    for (t = 0; t < FRAMES; t++)
      for (i = 0; i < width; i++) fprintf(f, "%.9g%c", (double)x[t * width + i], i + 1 < width ? ',' : '\n');
  } else if (q28) {
    for (i = 0; i < count; i++) {
      int32_t q = (int32_t)lrint((double)x[i] * 268435456.0);
      fwrite(&q, 4, 1, f);
    }
  } else {
    if (end != NULL && strcmp(end, ".npy") == 0) {
      char text[129];
      int used = snprintf(text, sizeof text, "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", FRAMES, width);
      memset(text + used, ' ', (size_t)(118 - used));
      text[117] = '\n';
      fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, f);
      fwrite(text, 1, 118, f);
    }
    fwrite(x, sizeof *x, (size_t)count, f);
  }
  if (!dash && fclose(f) != 0) die("can't be written", path);
}

int main(int argc, char **argv) {
  const char *stage = "compressed", *names[] = {"windowed", "spectrum", "filterbank", "compressed"};
  const float *arrays[] = {windowed, spectrum, filterbank, compressed};
  const int widths[] = {FRAME, BINS, BANDS, BANDS};
  int symmetric = 0, all = 0, q28 = 0, i, s, found = 0;
  for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
    if (strcmp(argv[i], "--symmetric") == 0) symmetric = 1;
    else if (strcmp(argv[i], "--all") == 0) all = 1;
    else if (strcmp(argv[i], "--q28") == 0) q28 = 1;
    else if (strcmp(argv[i], "--stage") == 0 && i + 1 < argc) stage = argv[++i];
    else die("no such option", argv[i]);
  }
  if (argc - i != 2) die("give a wav and where to write", "usage");
  read_wav(argv[i]);
  tables(symmetric);
  compute();
  for (s = 0; s < 4; s++) {
    char path[4096];
    if (all) snprintf(path, sizeof path, "%s/features_%s.npy", argv[i + 1], names[s]);
    if (all || strcmp(stage, names[s]) == 0) write_array(all ? path : argv[i + 1], arrays[s], widths[s], q28), found = 1;
  }
  if (!found) die("no such stage", stage);
  return 0;
}
