/* Masked and gathered accesses: lanes that are off may not fault, lanes that are on must. */
#include "hostile.h"
#include <immintrin.h>

__attribute__((target("avx2"))) static void all(char *edge)
{
	float *last = (float *)(edge - 8);
	__m256i two = _mm256_setr_epi32(-1, -1, 0, 0, 0, 0, 0, 0);
	__m256i three = _mm256_setr_epi32(-1, -1, -1, 0, 0, 0, 0, 0);
	__m256i none = _mm256_setzero_si256();
	volatile __m256 value;
	__m256i near = _mm256_setr_epi32(0, 1, 0, 1, 0, 1, 0, 1);
	__m256i far = _mm256_setr_epi32(0, 1, 500, 1, 0, 1, 0, 1);

	last[0] = 1;
	last[1] = 2;
	TRY("maskload two", value = _mm256_maskload_ps(last, two); printf("%g %g ", value[0], value[1]));
	TRY("maskload three", value = _mm256_maskload_ps(last, three));
	TRY("maskload none", value = _mm256_maskload_ps((float *)8, none));
	TRY("maskstore two", _mm256_maskstore_ps(last, two, _mm256_set1_ps(5)));
	TRY("maskstore three", _mm256_maskstore_ps(last, three, _mm256_set1_ps(6)));
	printf("%g %g\n", last[0], last[1]);
	TRY("gather", value = _mm256_i32gather_ps(last, near, 4); printf("%g ", value[7]));
	TRY("gather far", value = _mm256_i32gather_ps(last, far, 4));
	TRY("gather far, off", value = _mm256_mask_i32gather_ps(_mm256_setzero_ps(), last, far, _mm256_castsi256_ps(two), 4));
}

int main(void)
{
	catch_signals();
	char *edge = lone_page(PROT_READ | PROT_WRITE) + PAGE;
	try_base = (uintptr_t)edge - PAGE;
	try_unit = sizeof(float);
	all(edge);
	return 0;
}
